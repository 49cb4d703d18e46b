//! What a configuration says of privacy, in words for the audit log. Pure.

use picket_shared::crypto::sha256_hex;

use super::{Keep, Requests};
use crate::config::Config;

/// The whole, and the masks alone: a change of those is written down by itself.
pub fn describe(config: &Config) -> (String, String) {
    let masks: Vec<String> = config
        .cameras
        .iter()
        .map(|camera| {
            let corners = serde_json::to_string(&camera.masks).expect("numbers");
            format!("{} {} ({})", camera.name, camera.masks.len(), &sha256_hex(corners.as_bytes())[..12])
        })
        .collect();
    // A line has its bounds, and a digest of all of them stands in each.
    let all = masks.join(", ");
    let masks = format!("masks {}: {all}", &sha256_hex(all.as_bytes())[..12]);
    let requests = match config.privacy.requests {
        Requests::Never => "never",
        Requests::Blurred => "blurred",
        Requests::Clear => "clear",
    };
    let keep = if config.privacy.keep == Keep::Blurred { "blurred" } else { "clear" };
    let open = config.cameras.iter().filter(|camera| camera.record.is_some() || camera.restream.is_some()).count();
    let live = match config.live.enabled {
        false => "no live view",
        true if config.live.allow_other_machines => "live view for other machines",
        true => "live view on this machine",
    };
    let whole = format!("requests {requests}, kept {keep}, {live}, {open} cameras recorded or sent on; {masks}");
    (whole, masks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_masks_are_other_words() {
        let config = |mask: &str| -> Config {
            let camera = format!("[[camera]]\nname = \"front\"\nsource = \"/v.mp4\"\n{mask}");
            picket_shared::config::parse(&camera).unwrap()
        };
        let [none, one, other] = [
            "",
            "[[camera.mask]]\npolygon = [[0, 0], [1, 0], [1, 1]]",
            "[[camera.mask]]\npolygon = [[0, 0], [1, 0], [0, 1]]",
        ]
        .map(|mask| describe(&config(mask)));
        assert!(none.1 != one.1 && one.1 != other.1 && one.1.contains(": front 1 ("), "{one:?}");
        assert!(none.0.starts_with("requests blurred, kept blurred, live view on this machine, 0 cameras"), "{none:?}");
    }
}
