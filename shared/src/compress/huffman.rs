//! Huffman's method with canonical codes (as in RFC 1951, section 3.2.2): the lengths alone say what the codes are.

/// Longest code: a length is half a byte.
pub(super) const BITS_MAX: usize = 15;

/// The lengths of the codes of symbols that occur so often; 0 where a symbol does not. The longest has [`BITS_MAX`] bits.
pub(super) fn lengths(counts: &[u64]) -> Vec<u8> {
    let mut weights = counts.to_vec();
    loop {
        let lengths = unbounded(&weights);
        if lengths.iter().all(|length| usize::from(*length) <= BITS_MAX) {
            return lengths;
        }
        // Flatter counts give shorter codes; a rare symbol stays one.
        weights.iter_mut().filter(|count| **count > 0).for_each(|count| *count = *count / 2 + 1);
    }
}

fn unbounded(counts: &[u64]) -> Vec<u8> {
    let mut lengths = vec![0u8; counts.len()];
    let mut heap: std::collections::BinaryHeap<std::cmp::Reverse<(u64, usize)>> = counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .map(|(at, count)| std::cmp::Reverse((*count, at)))
        .collect();
    if let (1, Some(only)) = (heap.len(), heap.peek()) {
        lengths[only.0.1] = 1;
        return lengths;
    }
    // Nodes beyond the symbols are pairs; of each the parent.
    let mut parents = vec![usize::MAX; counts.len()];
    while heap.len() > 1 {
        let (Some(a), Some(b)) = (heap.pop(), heap.pop()) else { break };
        let pair = parents.len();
        parents.push(usize::MAX);
        parents[a.0.1] = pair;
        parents[b.0.1] = pair;
        heap.push(std::cmp::Reverse((a.0.0.saturating_add(b.0.0), pair)));
    }
    for symbol in (0..counts.len()).filter(|symbol| counts[*symbol] > 0) {
        let mut at = symbol;
        while let Some(parent) = parents.get(at).filter(|parent| **parent != usize::MAX) {
            lengths[symbol] = lengths[symbol].saturating_add(1);
            at = *parent;
        }
    }
    lengths
}

/// Codes of these lengths: shorter ones first, and among the same length lower symbols first.
fn codes(lengths: &[u8]) -> Vec<u16> {
    let mut codes = vec![0; lengths.len()];
    let mut first = [0u32; BITS_MAX + 1];
    let mut code = 0;
    let mut counts = [0u32; BITS_MAX + 1];
    lengths.iter().for_each(|length| counts[usize::from(*length)] += 1);
    counts[0] = 0;
    for bits in 1..=BITS_MAX {
        code = (code + counts[bits - 1]) << 1;
        first[bits] = code;
    }
    for (symbol, length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
        codes[symbol] = first[usize::from(*length)] as u16;
        first[usize::from(*length)] += 1;
    }
    codes
}

/// The bits of these symbols, the highest of each code first.
pub(super) fn written(symbols: &[u16], lengths: &[u8]) -> Vec<u8> {
    let codes = codes(lengths);
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0u32);
    for symbol in symbols {
        let length = u32::from(lengths[usize::from(*symbol)]);
        held = (held << length) | u32::from(codes[usize::from(*symbol)]);
        bits += length;
        while bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        bytes.push((held << (8 - bits)) as u8);
    }
    bytes
}

/// Reads symbols by the lengths of their codes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    bit: usize,
    /// Of each length how many codes there are.
    counts: [u32; BITS_MAX + 1],
    /// Symbols in the order of their codes.
    symbols: Vec<u16>,
}

impl<'a> Reader<'a> {
    /// `None` where no codes have these lengths, or where some bits would mean nothing.
    pub(super) fn new(lengths: &[u8], bytes: &'a [u8]) -> Option<Reader<'a>> {
        let mut counts = [0u32; BITS_MAX + 1];
        for length in lengths.iter().filter(|length| **length > 0) {
            *counts.get_mut(usize::from(*length))? += 1;
        }
        let room: u32 = (1..=BITS_MAX).map(|bits| counts[bits] << (BITS_MAX - bits)).sum();
        let alone = counts[1] == 1 && counts[2..].iter().all(|count| *count == 0);
        if room != 1 << BITS_MAX && !alone {
            return None;
        }
        let mut symbols: Vec<u16> = (0..lengths.len()).filter(|at| lengths[*at] > 0).map(|at| at as u16).collect();
        symbols.sort_by_key(|symbol| lengths[usize::from(*symbol)]);
        Some(Reader { bytes, bit: 0, counts, symbols })
    }

    /// The next symbol; `None` where the bits end or mean nothing.
    pub(super) fn next(&mut self) -> Option<u16> {
        let (mut code, mut first, mut index) = (0u32, 0u32, 0u32);
        for bits in 1..=BITS_MAX {
            let byte = self.bytes.get(self.bit / 8)?;
            code |= u32::from(byte >> (7 - self.bit % 8)) & 1;
            self.bit += 1;
            let count = self.counts[bits];
            if code < first + count {
                return self.symbols.get((index + code - first) as usize).copied();
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }

    /// Whether nothing is left but the end of the last byte.
    pub(super) fn done(&self) -> bool {
        self.bit.div_ceil(8) == self.bytes.len()
    }
}
