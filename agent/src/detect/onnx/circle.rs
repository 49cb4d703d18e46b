//! Whether things feed each other in a circle: nodes by what they make and want, functions by what they call. A runtime that
//! takes such a model goes round in it.

use std::collections::HashMap;
use std::hash::Hash;

/// What makes what, and what it wants for it.
pub(super) struct Feeds<K> {
    made_by: HashMap<K, u32>,
    /// What all want, one after the other.
    wants: Vec<K>,
    /// Where the wants of each end.
    ends: Vec<u32>,
}

impl<K> Default for Feeds<K> {
    fn default() -> Self {
        Feeds { made_by: HashMap::new(), wants: Vec::new(), ends: Vec::new() }
    }
}

impl<K: Copy + Eq + Hash> Feeds<K> {
    /// One more that makes these of those.
    pub(super) fn add(&mut self, makes: &[K], wants: &[K]) {
        let at = self.ends.len() as u32;
        self.made_by.extend(makes.iter().map(|made| (*made, at)));
        self.wants.extend(wants);
        self.ends.push(self.wants.len() as u32);
    }

    /// Whether one of them wants, by whatever detour, what it makes.
    pub(super) fn is_circle(&self) -> bool {
        const NEW: u8 = 0;
        const UNDER_WAY: u8 = 1;
        const DONE: u8 = 2;
        let begin = |at: u32| if at == 0 { 0 } else { self.ends[at as usize - 1] };
        let mut seen = vec![NEW; self.ends.len()];
        // Each with its next want: a chain of nodes is as long as somebody likes, and the stack is not.
        let mut path: Vec<(u32, u32)> = Vec::new();
        for start in 0..self.ends.len() as u32 {
            if seen[start as usize] != NEW {
                continue;
            }
            path.push((start, begin(start)));
            seen[start as usize] = UNDER_WAY;
            while let Some((at, next)) = path.last_mut() {
                if *next == self.ends[*at as usize] {
                    seen[*at as usize] = DONE;
                    path.pop();
                    continue;
                }
                let want = &self.wants[*next as usize];
                *next += 1;
                let Some(&maker) = self.made_by.get(want) else { continue };
                match seen[maker as usize] {
                    UNDER_WAY => return true,
                    NEW => {
                        seen[maker as usize] = UNDER_WAY;
                        path.push((maker, begin(maker)));
                    }
                    _ => {}
                }
            }
        }
        false
    }
}
