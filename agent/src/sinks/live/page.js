// The live page: each camera's newest picture, one after the other; the moving picture of one camera where it is opened.
"use strict";

const by = (id) => document.getElementById(id);
const made = (tag, set = {}, ...inside) => {
  const element = Object.assign(document.createElement(tag), set);
  element.append(...inside);
  return element;
};
const cards = new Map();

function show(title, element) {
  by("shown").replaceChildren(element);
  by("large").setAttribute("aria-label", title);
  by("large").showModal();
}
// Whatever moves stops when nobody looks.
by("large").addEventListener("close", () => by("shown").replaceChildren());

function card(camera) {
  const path = `/cameras/${camera}`;
  const image = made("img", { alt: `Newest picture of ${camera}` });
  const caption = made("figcaption");
  const open = made("button", { className: "open", title: "Watch" }, image);
  open.addEventListener("click", () => show(camera, made("img", { src: `${path}/live.mjpeg`, alt: `Live picture of ${camera}` })));
  const figure = made("figure", {}, open, caption);
  by("cameras").append(figure);
  const next = (wait_ms) => setTimeout(() => {
    if (!figure.isConnected) return;
    if (document.hidden || by("large").open) return next(1000);
    image.src = `${path}/snapshot.jpg?${Date.now()}`;
  }, wait_ms);
  image.addEventListener("load", () => next(500));
  image.addEventListener("error", () => next(3000));
  next(0);
  return { figure, caption };
}

function tell({ caption }, { camera, state, persons_now, fps, last_error }) {
  const well = state === "running" || state === "ended";
  const people = persons_now === 1 ? "1 person" : `${persons_now} people`;
  caption.replaceChildren(made("strong", { textContent: camera }), " ",
    made("span", { className: well ? "" : "bad", textContent: `${state} · ${people} · ${fps.toFixed(1)} pictures/s` }));
  if (!well && last_error) caption.append(made("div", { className: "bad", textContent: last_error }));
}

function event_item({ event, camera, time, clip }) {
  const image = made("img", { src: `/events/${event}/snapshot.jpg`, alt: `Best picture of event ${event}`, loading: "lazy" });
  const open = made("button", { className: "open", title: clip ? "Play the clip" : "Enlarge" }, image);
  open.addEventListener("click", () => show(event, clip
    ? made("video", { src: `/events/${event}/clip.mp4`, controls: true, autoplay: true, muted: true })
    : made("img", { src: image.src, alt: image.alt })));
  const item = made("li", {}, open, made("p", { textContent: `${camera}, ${new Date(time * 1000).toLocaleTimeString()}` }));
  item.dataset.key = `${event} ${time} ${clip}`;
  return item;
}

function list(events) {
  by("events-title").hidden = events.length === 0;
  const there = new Map([...by("events").children].map((item) => [item.dataset.key, item]));
  by("events").replaceChildren(...events.map((event) => there.get(`${event.event} ${event.time} ${event.clip}`) ?? event_item(event)));
}

async function turn() {
  try {
    const answer = await fetch("/state.json");
    if (!answer.ok) throw new Error(`the agent answers ${answer.status}`);
    const { cameras, events } = await answer.json();
    for (const [name, { figure }] of cards) {
      if (!cameras.some(({ camera }) => camera === name)) {
        figure.remove();
        cards.delete(name);
      }
    }
    for (const camera of cameras) {
      if (!cards.has(camera.camera)) cards.set(camera.camera, card(camera.camera));
      tell(cards.get(camera.camera), camera);
    }
    list(events);
    by("note").className = "";
    by("note").textContent = cameras.length === 0 ? "No camera is watched." : "Choose a picture to see it move.";
  } catch (error) {
    by("note").className = "bad";
    by("note").textContent = `The agent cannot be reached (${error.message}); it is tried again.`;
  }
  setTimeout(turn, 2000);
}
turn();
