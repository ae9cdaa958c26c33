//! Hashes of keys, by name. A key is bytes; the caller's own hash function is never used.

use xxhash_rust::xxh64::xxh64 as xxh64_seeded;

/// XXH64 with seed 0: the key hash of Envoy's hash policies, and the default here.
#[inline]
#[must_use]
pub fn xxh64(bytes: &[u8]) -> u64 {
    xxh64_seeded(bytes, 0)
}

/// XXH64 with a seed.
#[inline]
#[must_use]
pub fn xxh64_with_seed(bytes: &[u8], seed: u64) -> u64 {
    xxh64_seeded(bytes, seed)
}

/// The key hash of a whole number: XXH64 of its 8 little-endian bytes.
#[inline]
#[must_use]
pub fn of_u64(key: u64) -> u64 {
    xxh64(&key.to_le_bytes())
}

/// One header of an Envoy hash policy that occurs several times: its values sorted, each hashed with the hash so far
/// as seed (Envoy 1.40).
#[must_use]
pub fn envoy_header(values: &mut [&[u8]]) -> u64 {
    values.sort_unstable();
    values.iter().fold(0, |seed, value| xxh64_seeded(value, seed))
}

/// Adds the hash of the next policy to the hash of those before (Envoy 1.40).
#[must_use]
pub fn envoy_combine(so_far: u64, next: u64) -> u64 {
    so_far.rotate_left(1) ^ next
}

/// MurmurHash64A (Austin Appleby, public domain), reading words in little-endian order.
#[must_use]
pub fn murmur64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mut h = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let k = word.iter().rev().fold(0u64, |k, &b| (k << 8) | u64::from(b)).wrapping_mul(M);
        h = (h ^ (k ^ (k >> 47)).wrapping_mul(M)).wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        let k = tail.iter().rev().fold(0u64, |k, &b| (k << 8) | u64::from(b));
        h = (h ^ k).wrapping_mul(M);
    }
    h = (h ^ (h >> 47)).wrapping_mul(M);
    h ^ (h >> 47)
}

/// The seed that Envoy's MURMUR_HASH_2 takes from libstdc++.
pub const ENVOY_MURMUR_SEED: u64 = 0xc70f_6907;

/// CRC-32 (IEEE 802.3), as zlib, nginx and HAProxy compute it.
#[inline]
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// FNV-1a, 64 bits, going on from a state: [`FNV1A_START`] at first.
#[inline]
#[must_use]
pub fn fnv1a(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Where FNV-1a starts.
pub const FNV1A_START: u64 = 0xcbf2_9ce4_8422_2325;

/// The key hashes of HAProxy, by the names that it has for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyHash {
    /// sdbm, HAProxy's default.
    #[default]
    Sdbm,
    /// djb2.
    Djb2,
    /// wt6.
    Wt6,
    /// CRC-32.
    Crc32,
    /// The converter `xxh32`: sdbm of its result, as a big-endian number of 8 bytes.
    Xxh32,
    /// The converter `xxh64`, likewise.
    Xxh64,
    /// The converter `xxh3`, likewise.
    Xxh3,
}

impl KeyHash {
    /// The 32-bit hash of a key.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> u32 {
        match self {
            KeyHash::Sdbm => sdbm(bytes),
            KeyHash::Djb2 => bytes.iter().fold(5381, |h: u32, &b| h.wrapping_mul(33).wrapping_add(u32::from(b))),
            KeyHash::Wt6 => wt6(bytes),
            KeyHash::Crc32 => crc32(bytes),
            KeyHash::Xxh32 => sdbm(&u64::from(xxh32(bytes)).to_be_bytes()),
            KeyHash::Xxh64 => sdbm(&xxh64(bytes).to_be_bytes()),
            KeyHash::Xxh3 => sdbm(&xxhash_rust::xxh3::xxh3_64(bytes).to_be_bytes()),
        }
    }
}

/// XXH32 with seed 0.
#[must_use]
pub fn xxh32(bytes: &[u8]) -> u32 {
    xxhash_rust::xxh32::xxh32(bytes, 0)
}

fn sdbm(bytes: &[u8]) -> u32 {
    // h * 65599 + b, written as the shifts it was published with.
    bytes.iter().fold(0, |h: u32, &b| u32::from(b).wrapping_add(h << 6).wrapping_add(h << 16).wrapping_sub(h))
}

/// Two words that swap places with every byte, rotated by amounts that depend on both.
fn wt6(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (0xa53c_965a_u32, 0x5ca6_953a_u32);
    let (mut left, mut right) = (6u32, 18u32);
    for &byte in bytes {
        a = !(a ^ u32::from(byte));
        b = !b.wrapping_add(u32::from(byte));
        (a, b) = (b.rotate_left(left), a.rotate_left(right));
        let sum = ((a >> 16) ^ b) & 0xffff;
        (left, right) = (sum & 31, sum >> 11);
    }
    a ^ b
}

/// HAProxy's full avalanche: Bob Jenkins' six steps for whole numbers, then a prime near three quarters of the circle.
#[must_use]
pub fn avalanche(mut h: u32) -> u32 {
    h = h.wrapping_add(0x7ed5_5d16).wrapping_add(h << 12);
    h = (h ^ 0xc761_c23c) ^ (h >> 19);
    h = h.wrapping_add(0x1656_67b1).wrapping_add(h << 5);
    h = h.wrapping_add(0xd3a2_646c) ^ (h << 9);
    h = h.wrapping_add(0xfd70_46c5).wrapping_add(h << 3);
    h = (h ^ 0xb55a_4f09) ^ (h >> 16);
    h.wrapping_mul(3_221_225_473)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_avalanche_gives_the_values_that_haproxy_gives() {
        assert_eq!([0, 1, 4096].map(avalanche), [0xab4e_d927, 0x3486_81b6, 0x49c2_008b]);
    }

    #[test]
    fn hashes_of_texts_are_the_published_values() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(fnv1a(FNV1A_START, b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(fnv1a(fnv1a(FNV1A_START, b"foo"), b"bar"), 0x8594_4171_f739_67e8);
        assert_eq!(KeyHash::Djb2.of(b"a"), 5381 * 33 + 97);
        assert_eq!(KeyHash::Sdbm.of(b"ab"), 97 * 65_599 + 98);
        assert_eq!(xxh32(b""), 0x02cc_5d05);
    }

    #[test]
    fn xxh64_of_nothing_is_the_published_value() {
        assert_eq!(xxh64(b""), 0xef46_db37_51d8_e999);
    }

    #[test]
    fn murmur_matches_the_ring_of_envoys_own_test() {
        // First and last points of the six-host ring that Envoy's unit test lists.
        let at = |text: &str| murmur64a(text.as_bytes(), ENVOY_MURMUR_SEED);
        let mut points: Vec<(u64, u16)> =
            (80..86).flat_map(|port| (0..2).map(move |i| (at(&format!("127.0.0.1:{port}_{i}")), port))).collect();
        points.sort_unstable();
        assert_eq!(points.first(), Some(&(1_358_027_074_129_602_068, 85)));
        assert_eq!(points.last(), Some(&(17_613_279_263_364_193_813, 80)));
    }
}
