//! From a prompt to the hashes of its blocks. A block's hash covers all that comes before it, so that equal hashes mean
//! equal prefixes.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The seed of the first block. Any number would do; it stays, so that a snapshot means the same in a later version.
const START: u64 = 0x6169_6261_6c61_6e63;

/// The hashes of whole blocks of bytes, each XXH3-64 of the block with the hash before as its seed. What is left over at
/// the end belongs to no block.
pub fn of_bytes(bytes: &[u8], block: usize, out: &mut Vec<u64>) {
    let mut before = START;
    out.reserve(bytes.len() / block.max(1));
    for part in bytes.chunks_exact(block.max(1)) {
        before = xxh3_64_with_seed(part, before);
        out.push(before);
    }
}

/// The hashes of whole blocks of token ids: those of their little-endian 32-bit words.
pub fn of_tokens(tokens: &[u32], block: usize, out: &mut Vec<u64>) {
    let mut before = START;
    let mut part = Vec::with_capacity(block.saturating_mul(4).min(1 << 16));
    out.reserve(tokens.len() / block.max(1));
    for ids in tokens.chunks_exact(block.max(1)) {
        part.clear();
        ids.iter().for_each(|id| part.extend_from_slice(&id.to_le_bytes()));
        before = xxh3_64_with_seed(&part, before);
        out.push(before);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn tokens(ids: &[u32], block: usize) -> Vec<u64> {
        let mut out = Vec::new();
        of_tokens(ids, block, &mut out);
        out
    }

    #[test]
    fn equal_prefixes_have_equal_hashes_and_others_do_not() {
        let (a, b) = (tokens(&[1, 2, 3, 4, 5, 6], 2), tokens(&[1, 2, 3, 4, 5, 7], 2));
        assert_eq!((a.len(), &a[..2]), (3, &b[..2]));
        assert_ne!(a[2], b[2]);
        // The same block after another one is another block.
        let c = tokens(&[9, 9, 3, 4], 2);
        assert_ne!(a[1], c[1]);
    }

    #[test]
    fn what_fills_no_block_has_no_hash() {
        assert_eq!(tokens(&[], 4), [0u64; 0]);
        assert_eq!(tokens(&[1, 2, 3], 4), [0u64; 0]);
        assert_eq!(tokens(&[1, 2, 3, 4, 5], 4).len(), 1);
        assert_eq!(tokens(&[7, 8], 0).len(), 2, "a block of nothing is one of one");
    }

    #[test]
    fn token_ids_are_hashed_as_their_bytes() {
        let mut bytes = Vec::new();
        of_bytes(&[1, 0, 0, 0, 2, 0, 0, 0, 3], 8, &mut bytes);
        assert_eq!(bytes, tokens(&[1, 2, 3], 2));
    }

    #[test]
    fn the_hashes_stay_what_they_are() {
        assert_eq!(tokens(&[1, 2, 3, 4], 2), [FIRST, SECOND]);
    }

    const FIRST: u64 = 334_797_503_652_472_311;
    const SECOND: u64 = 15_340_280_572_508_594_754;
}
