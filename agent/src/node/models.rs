//! Where the node's core meets its models: what comes in for them, and how what they ask for goes out. They themselves are
//! [`crate::model::Models`].

use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::crypto::{Digest, PublicKey};
use picket_shared::model::{Chunk, LearnedState, Learns};
use picket_shared::status::CameraStats;
use picket_shared::topics::Topic;

use super::{Effect, Node, decoded, to_json};
use crate::model::{Models, News, Order};

/// What concerns models alone.
#[derive(Debug, Clone)]
pub enum ModelInput {
    /// What an earlier run left. Before anything else of models.
    Begin(Box<Models>),
    /// Orders are signed by this key from here on; by none, where the device is not enrolled.
    OrdersBy(Option<PublicKey>),
    /// The shell reports.
    News(News),
}

impl Node {
    pub(super) fn of_models(&mut self, now: Now, input: ModelInput, out: &mut Vec<Effect>) {
        match input {
            ModelInput::Begin(models) => {
                self.models = Some(*models);
                self.with_models(out, |models, orders| models.begin(now, orders));
            }
            ModelInput::OrdersBy(key) => self.with_models(out, |models, _| models.orders_by(key)),
            ModelInput::News(news) => {
                if let News::Switched(twin) = &news {
                    self.identity.twin.detector = (**twin).clone();
                    self.identity.duty.model.clone_from(&twin.model);
                    self.say_twin(out);
                    self.say_duty(out);
                }
                self.with_models(out, |models, orders| models.news(now, news, orders));
            }
        }
    }

    /// An assignment, or a piece of a model.
    pub(super) fn model_message(&mut self, now: Now, topic: &Topic, payload: &[u8], out: &mut Vec<Effect>) {
        let mut taken = Ok(());
        self.with_models(out, |models, orders| {
            taken = match topic {
                Topic::Blob(digest) => piece(now, models, digest, payload, orders),
                // Somebody has cleared what was retained.
                _ if payload.is_empty() => Ok(()),
                _ => models.assignment(now, payload, orders),
            };
        });
        if let Err((reason, detail)) = taken {
            self.reject(reason, detail, out);
        }
    }

    pub(super) fn models_online(&mut self, now: Now, online: bool, out: &mut Vec<Effect>) {
        self.with_models(out, |models, orders| models.online(now, online, orders));
    }

    /// What the cameras count, and how it is with released heads; and what is wrong with models, in a sentence each.
    pub(super) fn models_watch(
        &mut self,
        now: Now,
        cameras: &[CameraStats],
        learned: Option<(LearnedState, Learns)>,
        out: &mut Vec<Effect>,
    ) -> Vec<String> {
        self.with_models(out, |models, orders| {
            models.cameras(now, cameras, orders);
            models.learned(now, learned, orders);
        });
        self.models.as_ref().map(|models| models.problems(now)).unwrap_or_default()
    }

    pub(super) fn models_move_on(&mut self, now: Now, stops: bool, out: &mut Vec<Effect>) {
        self.with_models(out, |models, orders| match stops {
            true => models.stop(orders),
            false => models.move_on(now, orders),
        });
    }

    fn with_models(&mut self, out: &mut Vec<Effect>, work: impl FnOnce(&mut Models, &mut Vec<Order>)) {
        let Some(models) = &mut self.models else { return };
        let mut orders = Vec::new();
        work(models, &mut orders);
        let node = &self.identity.node;
        out.extend(orders.into_iter().map(|order| match order {
            Order::Want(want) => {
                let want = codec::encode(&want).expect("a request of ours keeps its own bounds");
                Effect::Publish(Topic::ModelWant(node.clone()), want)
            }
            Order::Say(state) => Effect::Publish(Topic::ModelState(node.clone()), to_json(&*state)),
            order => Effect::Model(order),
        }));
    }
}

fn piece(
    now: Now,
    models: &mut Models,
    digest: &Digest,
    payload: &[u8],
    orders: &mut Vec<Order>,
) -> Result<(), (&'static str, String)> {
    let chunk = decoded::<Chunk>(payload, "a piece of a model")?;
    models.chunk(now, digest, chunk, orders)
}
