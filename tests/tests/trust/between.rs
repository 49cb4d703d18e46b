//! A broker that lies, as one device sees it: it stands between the device and mosquitto, with the broker's own certificate to the
//! one and the device's to the other. What passes can be kept, swallowed with a receipt, let go later, and said by itself.

use std::sync::{Arc, Mutex};

use picket_shared::topics::Topic;
use picket_shared::trust::tls;
use picket_tests::wait_for;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use picket_shared::trust::identity::Identity;

use super::rig::{Rig, WITHIN, site};

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToDevice,
    ToBroker,
}

/// What becomes of a message. Who sent it is told that it has arrived, in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// It never was.
    Swallow,
}

type Rule = Box<dyn Fn(Way, &Topic) -> Fate + Send>;
type Packets = UnboundedSender<Vec<u8>>;

/// A message that came by, and what became of it.
pub struct Seen {
    pub way: Way,
    pub topic: Topic,
    pub payload: Vec<u8>,
    pub fate: Fate,
}

struct State {
    rule: Rule,
    seen: Vec<Seen>,
    /// The connections' wills, the newest last.
    wills: Vec<(Topic, Vec<u8>)>,
    device: Option<Packets>,
}

/// The liar.
pub struct Between {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Between {
    /// Stands between this device and the rig's broker.
    pub fn stand(rig: &Rig, device: &Identity) -> Between {
        let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
        let of_broker = |name: &str| read(rig.at("broker").join(name));
        let server = tls::server(&of_broker("broker.crt"), &of_broker("broker.key"), &of_broker("ca.crt")).unwrap();
        let (acceptor, upstream) = (TlsAcceptor::from(server), rig.mqtt_port);
        let files = device.tls();
        let listener = rig.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (rule, seen, wills, device) = (Box::new(|_, _: &Topic| Fate::Pass), Vec::new(), Vec::new(), None);
        let state = Arc::new(Mutex::new(State { rule, seen, wills, device }));
        let shared = Arc::clone(&state);
        rig.runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (acceptor, state, files) = (acceptor.clone(), Arc::clone(&shared), files.clone());
                tokio::spawn(async move {
                    let near = acceptor.accept(near).await.ok()?;
                    let far = TcpStream::connect(("127.0.0.1", upstream)).await.ok()?;
                    let name = ServerName::try_from("127.0.0.1").unwrap();
                    let connector = TlsConnector::from(tls::client(&files).unwrap());
                    let far = connector.connect(name, far).await.ok()?;
                    let (near_reads, near_writes) = tokio::io::split(near);
                    let (far_reads, far_writes) = tokio::io::split(far);
                    let (to_device, to_broker) = (writer(near_writes), writer(far_writes));
                    state.lock().unwrap().device = Some(to_device.clone());
                    let out =
                        carry(Way::ToBroker, near_reads, to_broker.clone(), to_device.clone(), Arc::clone(&state));
                    let home = carry(Way::ToDevice, far_reads, to_device, to_broker, state);
                    tokio::select! {
                        () = out => {}
                        () = home => {}
                    }
                    Some(())
                });
            }
        });
        Between { port, state }
    }

    pub fn url(&self) -> String {
        format!("mqtts://127.0.0.1:{}", self.port)
    }

    /// From here on this becomes of what passes.
    pub fn rule(&self, rule: impl Fn(Way, &Topic) -> Fate + Send + 'static) {
        self.state.lock().unwrap().rule = Box::new(rule);
    }

    /// What was said on a topic, oldest first, and what became of it.
    pub fn seen(&self, topic: &Topic) -> Vec<(Fate, Vec<u8>)> {
        let state = self.state.lock().unwrap();
        let of_topic = state.seen.iter().filter(|seen| seen.topic == *topic);
        of_topic.map(|seen| (seen.fate, seen.payload.clone())).collect()
    }

    /// How many messages went this way that the rule swallowed.
    pub fn swallowed(&self, way: Way) -> usize {
        let state = self.state.lock().unwrap();
        state.seen.iter().filter(|seen| seen.way == way && seen.fate == Fate::Swallow).count()
    }

    /// The wills of the connections, the newest last.
    pub fn wills(&self) -> Vec<(Topic, Vec<u8>)> {
        self.state.lock().unwrap().wills.clone()
    }

    /// Says something to the device, as if somebody had published it.
    pub fn say(&self, topic: &Topic, payload: &[u8]) {
        let packet = published(&topic.render(&site()), payload);
        wait_for("the device to be there", WITHIN, || {
            let state = self.state.lock().unwrap();
            state.device.as_ref().and_then(|device| device.send(packet.clone()).ok())
        });
    }
}

/// Writes packets as they come.
fn writer<S: AsyncWriteExt + Unpin + Send + 'static>(mut to: WriteHalf<S>) -> Packets
where
    WriteHalf<S>: AsyncWriteExt,
{
    let (say, mut said) = unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        while let Some(packet) = said.recv().await {
            if to.write_all(&packet).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
    });
    say
}

/// Carries packets one way until the connection ends.
async fn carry<S>(way: Way, mut from: ReadHalf<S>, to: Packets, back: Packets, state: Arc<Mutex<State>>)
where
    ReadHalf<S>: AsyncReadExt + Unpin,
{
    while let Ok(packet) = packet(&mut from).await {
        let passes = match packet[0] >> 4 {
            1 => {
                let will = will(&packet);
                state.lock().unwrap().wills.extend(will);
                true
            }
            3 => {
                let Published { topic, id, payload } = read_published(&packet);
                let mut state = state.lock().unwrap();
                let fate = topic.as_ref().map_or(Fate::Pass, |topic| (state.rule)(way, topic));
                state.seen.extend(topic.map(|topic| Seen { way, topic, payload, fate }));
                if let (Fate::Swallow, Some([high, low])) = (fate, id) {
                    // PUBACK.
                    let _ = back.send(vec![0x40, 2, high, low]);
                }
                fate == Fate::Pass
            }
            _ => true,
        };
        if passes && to.send(packet).is_err() {
            return;
        }
    }
}

/// One MQTT packet, whole.
async fn packet<R: AsyncReadExt + Unpin>(from: &mut R) -> std::io::Result<Vec<u8>> {
    let mut packet = vec![from.read_u8().await?];
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = from.read_u8().await?;
        packet.push(byte);
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let head = packet.len();
    packet.resize(head + length, 0);
    from.read_exact(&mut packet[head..]).await?;
    Ok(packet)
}

/// What stands behind the length.
fn body(packet: &[u8]) -> &[u8] {
    let head = 2 + packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
    &packet[head..]
}

/// Two bytes of length, and so many more.
fn field(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    bytes[2..].split_at(length)
}

struct Published {
    /// Nothing where it is none of ours.
    topic: Option<Topic>,
    id: Option<[u8; 2]>,
    payload: Vec<u8>,
}

fn read_published(packet: &[u8]) -> Published {
    let (topic, rest) = field(body(packet));
    let topic = Topic::parse(&site(), &String::from_utf8_lossy(topic)).ok();
    let (id, payload) = if packet[0] & 0x06 == 0 { (None, rest) } else { (Some([rest[0], rest[1]]), &rest[2..]) };
    Published { topic, id, payload: payload.to_vec() }
}

/// A PUBLISH that wants no answer.
fn published(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x30];
    let mut length = 2 + topic.len() + payload.len();
    while length >= 0x80 {
        packet.push(length as u8 & 0x7f | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.extend((topic.len() as u16).to_be_bytes());
    [&packet[..], topic.as_bytes(), payload].concat()
}

/// The will in a CONNECT of MQTT 3.1.1: behind the protocol's name, its level, flags, keep-alive and the client's id.
fn will(packet: &[u8]) -> Option<(Topic, Vec<u8>)> {
    let (_, rest) = field(body(packet));
    let (_client_id, after) = (rest[1] & 0x04 != 0).then(|| field(&rest[4..]))?;
    let (topic, after) = field(after);
    let (payload, _) = field(after);
    Some((Topic::parse(&site(), &String::from_utf8_lossy(topic)).ok()?, payload.to_vec()))
}
