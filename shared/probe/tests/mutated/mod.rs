//! Certificates that no authority made: whatever a server presents is judged, without a panic, and never found good.

use espalier_domain::verdict::Verdict;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::Config;
use rustls::pki_types::CertificateDer;
use rustls::version::TLS13;

use super::servers::{Authority, Pair, serve};
use super::verdict;

/// Something done to a certificate's DER.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Remove(Index),
    Insert(Index, u8),
    Append(Vec<u8>),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (any::<Index>(), 1..=255_u8).prop_map(|(at, mask)| Mutation::Flip(at, mask)),
        // Lengths and tags of DER, and what is longer than anything can be.
        4 => (any::<Index>(), prop::sample::select(vec![0, 0x02, 0x03, 0x17, 0x18, 0x30, 0x7f, 0x80, 0x82, 0x84, 0xa0, 0xff]))
            .prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => any::<Index>().prop_map(Mutation::Cut),
        1 => any::<Index>().prop_map(Mutation::Remove),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        1 => prop::collection::vec(any::<u8>(), 1..9).prop_map(Mutation::Append),
    ]
}

fn mutated(der: &[u8], mutation: &Mutation) -> Vec<u8> {
    let mut der = der.to_vec();
    let length = der.len();
    match mutation {
        Mutation::Flip(at, mask) => der[at.index(length)] ^= mask,
        Mutation::Set(at, byte) => der[at.index(length)] = *byte,
        Mutation::Cut(at) => der.truncate(at.index(length)),
        Mutation::Remove(at) => drop(der.remove(at.index(length))),
        Mutation::Insert(at, byte) => der.insert(at.index(length), *byte),
        Mutation::Append(more) => der.extend(more),
    }
    der
}

async fn judged(authority: &Authority, chain: &[CertificateDer<'static>], pair: &Pair) -> Verdict {
    verdict(&authority.root_pem, serve(chain, &pair.key, &TLS13).await, &pair.fingerprint()).await
}

proptest! {
    #![proptest_config(Config { cases: 256, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_certificate_that_was_tampered_with_is_never_good(of_leaf in prop::bool::weighted(0.8), mutation in mutation()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let authority = Authority::new("ours");
        let pair = authority.good_leaf();
        let mut chain = pair.chain.clone();
        let which = usize::from(!of_leaf);
        let changed = mutated(&chain[which], &mutation);
        prop_assume!(changed != chain[which].as_ref());
        chain[which] = CertificateDer::from(changed);
        let verdict = runtime.block_on(judged(&authority, &chain, &pair));
        prop_assert!(!verdict.faults.is_empty(), "{:?} was found good: {:?}", mutation, verdict);
    }
}
