"""Flower's legacy server over gRPC, with clients in processes of their own: how many updates it takes in a second.

Each client answers every round with the same arrays of 32-bit floats, so it learns nothing and costs as little as it can; what is
left is Flower's way of an update from a client to the mean. The server runs in this process, whose processor time is its alone.
"""

import argparse
import json
import logging
import multiprocessing
import os
import socket
import time
import warnings

# Before Flower is loaded: it would ask its makers whether there is a newer one, and tell them that it runs.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["GRPC_VERBOSITY"] = "ERROR"
warnings.simplefilter("ignore")

import flwr
import numpy as np

logging.getLogger("flwr").setLevel(logging.CRITICAL)

# The first rounds open connections and fill caches.
WARM_ROUNDS = 3


class Client(flwr.client.NumPyClient):
    def __init__(self, parameters, number):
        self.update = np.random.default_rng(number).standard_normal(parameters).astype(np.float32)

    def get_parameters(self, config):
        return [self.update]

    def fit(self, parameters, config):
        return [self.update], 10, {}

    def evaluate(self, parameters, config):
        return 0.0, 10, {}


def work(address, parameters, number):
    logging.disable(logging.CRITICAL)
    flwr.client.start_client(server_address=address, client=Client(parameters, number).to_client())


class Timed(flwr.server.strategy.FedAvg):
    """FedAvg that notes when each round's mean is made."""

    def __init__(self, clients, parameters):
        begin = flwr.common.ndarrays_to_parameters([np.zeros(parameters, np.float32)])
        super().__init__(fraction_fit=1.0, fraction_evaluate=0.0, min_fit_clients=clients, min_evaluate_clients=0,
                         min_available_clients=clients, initial_parameters=begin)
        self.marks = []
        self.updates = 0

    def aggregate_fit(self, server_round, results, failures):
        if failures:
            raise RuntimeError(f"{len(failures)} clients failed: {failures[0]}")
        mean = super().aggregate_fit(server_round, results, failures)
        if server_round > WARM_ROUNDS:
            self.updates += len(results)
        if server_round >= WARM_ROUNDS:
            self.marks.append((time.monotonic(), time.process_time()))
        return mean


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--parameters", type=int, required=True)
    options.add_argument("--clients", type=int, required=True)
    options.add_argument("--rounds", type=int, required=True)
    options = options.parse_args()

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    context = multiprocessing.get_context("spawn")
    clients = [context.Process(target=work, args=(address, options.parameters, n), daemon=True) for n in range(options.clients)]
    for client in clients:
        client.start()
    strategy = Timed(options.clients, options.parameters)
    config = flwr.server.ServerConfig(num_rounds=WARM_ROUNDS + options.rounds)
    logging.disable(logging.CRITICAL)
    flwr.server.start_server(server_address=address, config=config, strategy=strategy)
    for client in clients:
        client.join(10)

    (begun, cpu_begun), (ended, cpu_ended) = strategy.marks[0], strategy.marks[-1]
    seconds, cpu_seconds = ended - begun, cpu_ended - cpu_begun
    print(json.dumps({
        "version": flwr.__version__,
        "clients": options.clients,
        "updates": strategy.updates,
        "updates_per_s": strategy.updates / seconds,
        "updates_per_core_s": strategy.updates / cpu_seconds,
    }))


if __name__ == "__main__":
    main()
