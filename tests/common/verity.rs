//! fs-verity digests, as the kernel's documentation defines them.

use sha2::{Digest, Sha256};

const BLOCK: usize = 4096;
const HASH: usize = 32;
/// `struct fsverity_descriptor`.
const DESCRIPTOR: usize = 256;
const SHA256_ALGORITHM: u8 = 1;

/// The digest, in hexadecimal, of a file with this content: SHA-256, blocks of
/// 4,096 bytes, no salt.
pub fn fs_verity(content: &[u8]) -> String {
    let mut descriptor = [0; DESCRIPTOR];
    descriptor[0] = 1; // version
    descriptor[1] = SHA256_ALGORITHM;
    descriptor[2] = BLOCK.ilog2() as u8;
    descriptor[8..16].copy_from_slice(&(content.len() as u64).to_le_bytes());
    descriptor[16..16 + HASH].copy_from_slice(&root_hash(content));
    hex::encode(Sha256::digest(descriptor))
}

/// The root of the Merkle tree; that of an empty file is all zeros.
fn root_hash(content: &[u8]) -> [u8; HASH] {
    if content.is_empty() {
        return [0; HASH];
    }
    let mut level = content.to_vec();
    loop {
        level.resize(level.len().next_multiple_of(BLOCK), 0);
        let hashes: Vec<[u8; HASH]> =
            level.chunks(BLOCK).map(|block| Sha256::digest(block).into()).collect();
        if let [root] = hashes[..] {
            return root;
        }
        level = hashes.concat();
    }
}
