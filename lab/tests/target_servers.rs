//! The lab's targets as their owner prepared them, with the real installer on them: new connections all the while,
//! and none that fails.

mod target_world;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use espalier_lab::target::Kind;
use rcgen::{KeyPair, RsaKeySize};
use target_world::{Clients, Host, IDENTITY, Pair, STACK, assert_unbroken};

async fn changes_over_without_a_failed_connection(kind: Kind) {
    let host = Host::new(kind);
    assert!(host.ask().await.unwrap_err().starts_with("connecting"), "nothing is served without a certificate");
    let first = host.installed(1).await;
    assert_eq!(host.ask().await.unwrap(), (first.fingerprint.clone(), IDENTITY.to_owned()));

    let clients = Clients::start(&host);
    let (second, third) = (host.installed(2).await, host.installed(3).await);
    // Apache would end at the next reload of a pair that does not match.
    let other = host.authority.pair();
    let said = host.install(4, &other.fingerprint, &format!("{}{}", first.key, other.chain)).await;
    assert_eq!(said["code"], "invalidBundle", "{said}");
    let others = every_kind_of_key(&host).await;
    let seen = clients.end().await;
    assert_unbroken(&seen, &[&[&first, &second, &third], others.iter().collect::<Vec<_>>().as_slice()].concat());
    assert_eq!(host.ask().await.unwrap().0, others.last().unwrap().fingerprint);
    host.stop().await;
}

/// One kind of key after the other, as a spec's `keyType` may change: each is served before the next.
async fn every_kind_of_key(host: &Host) -> Vec<Pair> {
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
    let keys = [
        rsa(RsaKeySize::_2048),
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
        rsa(RsaKeySize::_4096),
    ];
    let mut pairs = Vec::new();
    for (generation, key) in (5..).zip(&keys) {
        let pair = host.authority.made_of(key, time::Duration::hours(1));
        let said = host.install(generation, &pair.fingerprint, &format!("{}{}", pair.key, pair.chain)).await;
        assert_eq!(said["code"], "installed", "{said}");
        assert_eq!(host.ask().await.unwrap().0, pair.fingerprint);
        pairs.push(pair);
    }
    pairs
}

#[tokio::test(flavor = "multi_thread")]
async fn the_labs_own_server_changes_over_without_a_failed_connection() {
    changes_over_without_a_failed_connection(Kind::Lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_changes_over_without_a_failed_connection() {
    changes_over_without_a_failed_connection(Kind::Apache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_changes_over_without_a_failed_connection() {
    changes_over_without_a_failed_connection(Kind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_changes_over_without_a_failed_connection() {
    changes_over_without_a_failed_connection(Kind::Haproxy).await;
}

/// A server of its own must not fall for what the installer would not have let through.
#[tokio::test(flavor = "multi_thread")]
async fn the_labs_own_server_keeps_its_pair_when_told_to_load_a_bad_one() {
    let host = Host::new(Kind::Lab);
    let first = host.installed(1).await;
    let clients = Clients::start(&host);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let base = host.guest.certificates.join(STACK);
    let mismatched = base.join("mismatched");
    fs::create_dir(&mismatched).unwrap();
    fs::write(mismatched.join("fullchain.pem"), host.authority.pair().chain).unwrap();
    fs::write(mismatched.join("key.pem"), &first.key).unwrap();
    for bad in ["mismatched", "nowhere"] {
        symlink(bad, base.join("next")).unwrap();
        fs::rename(base.join("next"), base.join("current")).unwrap();
        assert!(host.run("hooks/reload", &[]).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_unbroken(&clients.end().await, &[&first]);
    symlink("generations/1", base.join("next")).unwrap();
    fs::rename(base.join("next"), base.join("current")).unwrap();
    let second = host.installed(2).await;
    assert_eq!(host.ask().await.unwrap().0, second.fingerprint, "and takes the next good one");
}

/// A configuration that is broken for another reason: nothing is reloaded, and what runs goes on.
async fn a_broken_configuration_keeps_serving(kind: Kind, configuration: &str, nonsense: &str) {
    let host = Host::new(kind);
    let first = host.installed(1).await;
    let clients = Clients::start(&host);
    let good = fs::read_to_string(host.path(configuration)).unwrap();
    fs::write(host.path(configuration), format!("{good}{nonsense}\n")).unwrap();
    let pair = host.authority.pair();
    let bundle = format!("{}{}", pair.key, pair.chain);
    let said = host.install(2, &pair.fingerprint, &bundle).await;
    assert_eq!(said["code"], "serverBroken", "{said}");
    assert!(said["detail"].as_str().unwrap().contains("was broken before, nothing was changed"), "{said}");
    assert_unbroken(&clients.end().await, &[&first]);
    fs::write(host.path(configuration), good).unwrap();
    let second = host.installed(3).await;
    assert_eq!(host.ask().await.unwrap().0, second.fingerprint);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_with_a_broken_configuration_keeps_serving() {
    a_broken_configuration_keeps_serving(Kind::Apache, "httpd.conf", "NoSuchDirective on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_with_a_broken_configuration_keeps_serving() {
    a_broken_configuration_keeps_serving(Kind::Nginx, "nginx.conf", "no_such_directive on;").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_with_a_broken_configuration_keeps_serving() {
    a_broken_configuration_keeps_serving(Kind::Haproxy, "haproxy.cfg", "nosuchkeyword on").await;
}

/// Somebody stopped it in between: the next installation starts it with the new pair.
async fn one_that_was_stopped_is_started(kind: Kind) {
    let host = Host::new(kind);
    host.installed(1).await;
    host.stop().await;
    assert!(host.ask().await.is_err());
    let second = host.installed(2).await;
    assert_eq!(host.ask().await.unwrap().0, second.fingerprint);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_that_was_stopped_is_started_with_the_next_generation() {
    one_that_was_stopped_is_started(Kind::Apache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_that_was_stopped_is_started_with_the_next_generation() {
    one_that_was_stopped_is_started(Kind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_that_was_stopped_is_started_with_the_next_generation() {
    one_that_was_stopped_is_started(Kind::Haproxy).await;
}
