//! What hostile stations do, and which stations those are.

use std::collections::VecDeque;

use picket_shared::random::SplitMix64;

use super::task::Task;

/// How a hostile station lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Attack {
    /// Not at all.
    #[default]
    None,
    /// Five times the opposite of what it learned.
    Signflip,
    /// A hundred times the opposite.
    Scale,
    /// Learns that each class is the last one minus itself.
    Labelflip,
    /// A little less than what the others say: the mean less 1.5 deviations (Baruch et al., NeurIPS 2019).
    Alie,
    /// The opposite of the others' mean (Xie et al., UAI 2019).
    Ipm,
    /// The fastest stations, faster still, with the sign turned.
    Flood,
    /// Noise, ten times as long as what it learned.
    Noise,
}

impl Attack {
    /// All of them.
    pub const ALL: [Attack; 8] = [
        Attack::None,
        Attack::Signflip,
        Attack::Scale,
        Attack::Labelflip,
        Attack::Alie,
        Attack::Ipm,
        Attack::Flood,
        Attack::Noise,
    ];
}

/// Seconds of a flooding station's job.
const FLOOD_S: f64 = 0.3;

/// Which stations are hostile, and how long each one's job takes then.
pub fn chosen(task: &Task, attack: Attack, share: f64) -> (Vec<bool>, Vec<f64>) {
    let stations = task.dealt.len();
    let count = if attack == Attack::None { 0 } else { (share * stations as f64).floor() as usize };
    let mut order: Vec<usize> = (0..stations).collect();
    let mut random = SplitMix64::stream(task.seed, 555, 0);
    for at in (1..stations).rev() {
        order.swap(at, random.below(at + 1));
    }
    let mut compute_s = task.compute_s.clone();
    if attack == Attack::Flood {
        order.sort_by(|a, b| compute_s[*a].total_cmp(&compute_s[*b]));
    }
    let mut hostile = vec![false; stations];
    for &k in &order[..count] {
        hostile[k] = true;
        if attack == Attack::Flood {
            compute_s[k] = FLOOD_S;
        }
    }
    (hostile, compute_s)
}

/// What a hostile station makes of what it learned.
pub fn twist(attack: Attack, delta: &mut [f32], random: &mut SplitMix64) {
    let factor = match attack {
        Attack::Signflip | Attack::Flood => -5.0,
        Attack::Scale => -100.0,
        Attack::Noise => {
            let norm = delta.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let width = 10.0 * norm / (delta.len() as f64).sqrt();
            delta.iter_mut().for_each(|x| *x = (random.normals()[0] * width) as f32);
            1.0
        }
        Attack::None | Attack::Labelflip | Attack::Alie | Attack::Ipm => 1.0,
    };
    delta.iter_mut().for_each(|x| *x *= factor);
}

/// What a hostile station says once it knows what honest ones have said.
pub fn collude(attack: Attack, change: &mut [f32], spied: &VecDeque<Vec<f32>>) {
    if spied.is_empty() || !matches!(attack, Attack::Alie | Attack::Ipm) {
        return;
    }
    let count = spied.len() as f64;
    for (at, change) in change.iter_mut().enumerate() {
        let values = || spied.iter().map(|row| f64::from(row[at]));
        let mean = values().sum::<f64>() / count;
        let deviation = (values().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
        *change = if attack == Attack::Ipm { -mean } else { mean - 1.5 * deviation } as f32;
    }
}
