//! Minting: a key, a leaf through the asynchronous seam with its checks, and the bundle. Keys and serial numbers are
//! fresh each time.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use espalier_domain::id::HostName;
use espalier_domain::spec::{AllowedDomains, KeyType};
use espalier_pki::authority::Authority;
use espalier_pki::bundle;
use espalier_pki::issue;
use espalier_pki::key::PrivateKey;
use espalier_pki::lint::Policy;
use espalier_pki::profile::{LeafRequest, Purpose, Serial};
use futures::executor::block_on;
use time::Duration;
use time::macros::datetime;

fn mint(criterion: &mut Criterion) {
    let now = datetime!(2026-11-21 12:00 UTC);
    let serials = [Serial::random().unwrap(), Serial::random().unwrap()];
    let authority = block_on(Authority::ceremony(KeyType::EcPrime256v1, &["example.com"], now, serials)).unwrap();
    let name = HostName::parse("api.example.com").unwrap();
    let mut group = criterion.benchmark_group("mint");
    let policy = Policy {
        domains: AllowedDomains::parse("example.com").unwrap(),
        names: vec![name.clone()],
        key_types: vec![KeyType::EcPrime256v1],
        longest: Duration::hours(168),
    };
    group.throughput(Throughput::Elements(1));
    let request = || LeafRequest {
        purpose: Purpose::Server,
        dns_names: vec![name.clone()],
        now,
        validity: Duration::hours(168),
        serial: Serial::random().unwrap(),
    };
    group.bench_function("key", |bench| bench.iter(|| PrivateKey::generate(KeyType::EcPrime256v1).unwrap()));
    let subject = PrivateKey::generate(KeyType::EcPrime256v1).unwrap();
    group.bench_function("leaf", |bench| {
        bench.iter(|| {
            block_on(issue::leaf(authority.signer(), authority.issuing_der(), subject.public(), &request(), &policy))
                .unwrap()
        });
    });
    group.bench_function("key, leaf and bundle", |bench| {
        bench.iter(|| {
            let key = PrivateKey::generate(KeyType::EcPrime256v1).unwrap();
            let request = request();
            let future = issue::leaf(authority.signer(), authority.issuing_der(), key.public(), &request, &policy);
            let leaf = block_on(future).unwrap();
            bundle::assemble(&key, &leaf).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, mint);
criterion_main!(benches);
