//! Every bound of the protocol and of the stores, by name, with its reason.
//!
//! Hitting a bound is always counted and reported where it happens. Nothing here reads configuration: these are
//! promises between versions, and both sides hold them.

/// Longest name of a site, node, station, camera, zone or label: it becomes a topic level and a file name.
pub const NAME_CHARS_MAX: usize = 48;
/// Longest event id: a node, a boot and a track number, with room for a second name.
pub const EVENT_ID_CHARS_MAX: usize = 160;

/// One event as stored and sent. An event with eight zones is about 400 bytes; sled wants values under 16 KiB.
pub const EVENT_BYTES_MAX: usize = 4 * 1024;
/// One dead letter: an event that cannot be sent, as JSON, cut here. Enough to see what it was.
pub const DEAD_LETTER_BYTES_MAX: usize = 8 * 1024;
/// Zones that one event may name.
pub const EVENT_ZONES_MAX: usize = 16;
/// Lines of one camera.
pub const CAMERA_LINES_MAX: usize = 16;
/// Crossings that one event lists, the newest. Who crosses more often than that is not on the way anywhere.
pub const EVENT_CROSSINGS_MAX: usize = 8;

/// Events in one batch: as many as one group commit of the store.
pub const BATCH_EVENTS_MAX: usize = 16;
/// One batch on the wire, with room for the envelope.
pub const BATCH_BYTES_MAX: usize = BATCH_EVENTS_MAX * EVENT_BYTES_MAX + 1024;
/// Events published and not yet covered by an ack watermark, per node.
pub const WINDOW_EVENTS_MAX: u64 = 64;
/// How far ahead of its watermark a lane takes events in: twice the window, so that a rewind is never refused.
pub const AHEAD_EVENTS_MAX: u64 = 2 * WINDOW_EVENTS_MAX;
/// Holes that one ack may list; a window cannot have more.
pub const ACK_HOLES_MAX: usize = WINDOW_EVENTS_MAX as usize;
/// One ack on the wire: 64 holes of two 64-bit numbers and change.
pub const ACK_BYTES_MAX: usize = 2 * 1024;

/// How often a node says that it is there, and asks for its leases. The coordinator and its neighbours take the absence for
/// trouble, so all must mean the same.
pub const HEARTBEAT_MS: u64 = 1_000;
/// How long a lease lasts from the heartbeat that it answers: four answers may be lost in a row.
pub const LEASE_TTL_MS: u64 = 5_000;
/// By how much earlier a holder takes its lease for ended than the coordinator does. Clocks of oscillators differ by far
/// less than this fifth.
pub const LEASE_MARGIN_MS: u64 = 1_000;
/// Stations that one node may watch at once.
pub const HOLDINGS_MAX: usize = 16;
/// Stations that one node may stand by for.
pub const STANDBY_DUTIES_MAX: usize = 32;
/// Nodes in line for one station, beside its own.
pub const RANKS_MAX: usize = 3;
/// Nodes that one node listens to: the homes and the ranks of what it stands by for.
pub const NEIGHBOURS_MAX: usize = 64;
/// One heartbeat: 16 holdings, 32 stations and 64 nodes under the longest names are about 7 KiB; the usual one has 60 bytes.
pub const HEARTBEAT_BYTES_MAX: usize = 8 * 1024;
/// One heartbeat between neighbours without a broker: with two names and a signature.
pub const GOSSIP_BYTES_MAX: usize = HEARTBEAT_BYTES_MAX + 3 + 2 * NAME_CHARS_MAX + 32;
/// One answer to a heartbeat.
pub const LEASES_BYTES_MAX: usize = 2 * 1024;
/// What one node stands by for, cameras of its own included.
pub const STANDBY_BYTES_MAX: usize = 384 * 1024;
/// What one station's node says of it: the cameras' tables of a configuration.
pub const DUTY_BYTES_MAX: usize = 64 * 1024;
/// Values in it, by what separates them: sixteen cameras with a dozen zones of eight corners each have fewer. A value of two bytes
/// takes two hundred in memory while it is read; so many stay below four times the largest message that a node takes.
pub const DUTY_ITEMS_MAX: usize = 6 * 1024;

/// Numbers of a learned head. A re-scorer has 138; the largest that were measured have 100,000.
pub const HEAD_PARAMETERS_MAX: usize = 128 * 1024;
/// Features that a head judges by.
pub const HEAD_INPUTS_MAX: usize = 4 * 1024;
/// Classes that a head tells apart.
pub const HEAD_CLASSES_MAX: usize = 256;
/// Parameters of a whole head that share one scale: few enough that one outlier costs the others little.
pub const HEAD_SCALE_PARAMETERS: usize = 256;
/// The Euclidean norm of a released head. Inputs are of the size of one, and what was learned was never longer than a hundred.
pub const HEAD_NORM_MAX: usize = 1_000;
/// One station's change of a head: a byte for each value, its place in at most half of one, and the head of the message.
pub const HEAD_UPDATE_BYTES_MAX: usize = HEAD_PARAMETERS_MAX * 3 / 2 + 512;
/// A whole head: a byte for each parameter, a scale for each block, and the head of the message.
pub const HEAD_BYTES_MAX: usize = HEAD_PARAMETERS_MAX + HEAD_PARAMETERS_MAX / HEAD_SCALE_PARAMETERS * 4 + 512;
/// A head as its difference from the whole one.
pub const HEAD_DELTA_BYTES_MAX: usize = HEAD_UPDATE_BYTES_MAX;
/// Confirmed samples in one message.
pub const ROOT_SAMPLES_MAX: usize = 16;
/// Their bytes: sixteen of a thousand features each, with who confirmed them.
pub const ROOT_SAMPLES_BYTES_MAX: usize = 68 * 1024;
/// What the coordinator has of a device's learning: five numbers.
pub const LEARN_ACK_BYTES_MAX: usize = 128;
/// What persons said of one node's events, the newest of it: a device that was away hears it when it comes back.
pub const LABELS_MAX: usize = 64;
/// What cameras that see the same ground told of one node's events, the newest of it.
pub const AGREED_MAX: usize = 32;
/// One message of all of these, each with the longest names.
pub const LABELS_BYTES_MAX: usize = 48 * 1024;
/// What an operator says of the last event of a node is said within so many seconds of its time.
pub const LAST_LABEL_S_MAX: u64 = 60;

/// How often a node says its statistics.
pub const STATS_MS: u64 = 2_000;
/// One JSON message (health, twin, statistics) from a node. Sixteen cameras with all zones, lines and sinks under the
/// longest names are about 77 KiB.
pub const STATUS_BYTES_MAX: usize = 96 * 1024;
/// Values in a JSON message from a node, its commas counted; sixteen full cameras have about 2,100.
pub const STATUS_ITEMS_MAX: usize = 4096;
/// Sources of one agent.
pub const SOURCES_MAX: usize = 16;
/// Nodes that one coordinator shows. The retained view is one document, so it has a size.
pub const NODES_MAX: usize = 1024;
/// Events in the retained list of the newest ones.
pub const RECENT_EVENTS_MAX: usize = 50;
/// Changes of who lives and who watches what, in the view of the site.
pub const RECENT_CHANGES_MAX: usize = 20;

/// Most characters of the name that who asks for a picture gives. Nobody reads more.
pub const PICTURE_WHO_CHARS_MAX: usize = 80;
/// Most characters of the reason.
pub const PICTURE_WHY_CHARS_MAX: usize = 200;
/// How long a request stands at most, from when it is asked: a day. After that it is asked anew, and written down anew.
pub const PICTURE_LIFE_S_MAX: u64 = 24 * 60 * 60;
/// One order on the wire: two texts of four-byte characters, names, a key, and all parts to be said again.
pub const PICTURE_ORDER_BYTES_MAX: usize = 2 * 1024 + 4 * PICTURE_PARTS_MAX;
/// One state on the wire.
pub const PICTURE_STATE_BYTES_MAX: usize = 2 * 1024;
/// A picture or a clip that leaves a device. A clip of half a minute has two to four MiB.
pub const PICTURE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// One part of it, before it is sealed: small enough that a heartbeat behind it is not late on a slow link.
pub const PICTURE_PART_BYTES_MAX: usize = 64 * 1024;
/// Parts of one picture.
pub const PICTURE_PARTS_MAX: usize = PICTURE_BYTES_MAX / PICTURE_PART_BYTES_MAX;

/// How often a client asks the broker for a sign of life where nothing else is sent.
pub const KEEP_ALIVE_MS: u64 = 5_000;
/// A link that brings nothing is noticed by its client within this: one question, and one time without an answer.
pub const LINK_NOTICED_MS: u64 = 2 * KEEP_ALIVE_MS;
/// Largest MQTT packet that either side sends or takes: the view of 1024 nodes is the largest message there is.
pub const PACKET_BYTES_MAX: usize = 512 * 1024;
/// Requests that wait inside the MQTT client before `publish` answers "busy".
pub const MQTT_REQUESTS_MAX: usize = 128;
/// Messages received and not yet handled before the client stops reading its socket.
pub const MQTT_RECEIVED_MAX: usize = 1024;

/// Largest configuration file: a profile is about 4 KiB.
pub const CONFIG_BYTES_MAX: u64 = 256 * 1024;
/// Most bytes of a roster: each of [`NODES_MAX`] devices with its keys, and the chain of orders keys.
pub const ROSTER_BYTES_MAX: usize = 256 * 1024;
/// Values in a roster, its commas counted: four of each of [`NODES_MAX`] devices, and as many again for the chain of orders
/// keys and keys that were taken back.
pub const ROSTER_ITEMS_MAX: usize = 6 * NODES_MAX;

/// Largest model file: the large members of the known families have about 100 MB.
pub const MODEL_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Largest head, calibration table or list of labels beside a model: a head is a few hundred numbers.
pub const MODEL_PART_BYTES_MAX: usize = 1024 * 1024;
/// Keys that a root names.
pub const MODEL_KEYS_MAX: usize = 8;
/// Signatures of one document: those of the keys before and after a rotation.
pub const MODEL_SIGNATURES_MAX: usize = 2 * MODEL_KEYS_MAX;
/// A root without its signatures: eight keys of 64 digits are about 700 bytes.
pub const MODEL_ROOT_BYTES_MAX: usize = 2 * 1024;
/// Roots of one chain: an owner who changes a key every quarter has enough for eight years. A device that was away for longer
/// is given a newer root by its own configuration.
pub const MODEL_ROOTS_MAX: usize = 32;
/// A manifest without its signatures.
pub const MODEL_MANIFEST_BYTES_MAX: usize = 16 * 1024;
/// Encodings that one file is offered in.
pub const MODEL_ENCODINGS_MAX: usize = 16;
/// Names of models that one device keeps a counter of.
pub const MODEL_NAMES_MAX: usize = 32;
/// Networks that one device keeps the highest learned head of; of more the one that was said longest ago is forgotten.
pub const MODEL_LEARNED_MAX: usize = 8;
/// What a device has seen of models: a root, and [`MODEL_NAMES_MAX`] counters of models and of heads.
pub const MODEL_TRUSTED_BYTES_MAX: usize = 16 * 1024;
/// One assignment: 32 roots with 16 signatures each are about 112 KiB, two manifests with theirs about 36 KiB.
pub const MODEL_ASSIGNMENT_BYTES_MAX: usize = 160 * 1024;
/// How long an assignment is fresh. The coordinator says it again long before; who hears none for so long is being kept from
/// the news, or has no coordinator.
pub const MODEL_ASSIGNMENT_LIFE_S: u64 = 3 * 24 * 60 * 60;
/// Smallest piece that a model travels in.
pub const MODEL_CHUNK_BYTES_MIN: usize = 1024;
/// Largest piece that a model travels in.
pub const MODEL_CHUNK_BYTES_MAX: usize = 64 * 1024;
/// One piece on the wire.
pub const MODEL_CHUNK_MESSAGE_BYTES_MAX: usize = MODEL_CHUNK_BYTES_MAX + 64;
/// Ranges of missing pieces that one request names.
pub const MODEL_WANT_RANGES_MAX: usize = 64;
/// One request for missing pieces.
pub const MODEL_WANT_BYTES_MAX: usize = 2 * 1024;
