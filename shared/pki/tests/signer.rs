//! The signer's seam: a key that is somewhere else, answers late, wrongly or not at all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use common::{NOW, authority, key, policy, request, rules, try_leaf};
use espalier_pki::issue::{self, IssueError, SignError, Signer};
use espalier_pki::key::PublicKey;
use espalier_pki::lint::Linted;

/// Answers after it was polled a few times, as a call over the network does.
struct Late(u32);

impl Future for Late {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A signer that hands on to another and spoils what comes back.
struct Remote<'a, S> {
    inner: &'a S,
    asked: Mutex<Vec<Vec<u8>>>,
    spoil: fn(Vec<u8>) -> Result<Vec<u8>, SignError>,
}

impl<S: Signer + Sync> Signer for Remote<'_, S> {
    fn public_key(&self) -> &PublicKey {
        self.inner.public_key()
    }

    async fn sign(&self, certificate: &Linted) -> Result<Vec<u8>, SignError> {
        Late(3).await;
        self.asked.lock().unwrap().push(certificate.message().to_vec());
        (self.spoil)(self.inner.sign(certificate).await?)
    }
}

fn leaf_with(spoil: fn(Vec<u8>) -> Result<Vec<u8>, SignError>) -> (Result<issue::Leaf, IssueError>, usize) {
    let authority = authority(&["example.com"], NOW);
    let remote = Remote { inner: authority.signer(), asked: Mutex::default(), spoil };
    let subject = key();
    let request = request(&["api.example.com"]);
    let policy = policy(&request);
    let future = issue::leaf(&remote, authority.issuing_der(), subject.public(), &request, &policy);
    let leaf = futures::executor::block_on(future);
    let asked = remote.asked.lock().unwrap().len();
    (leaf, asked)
}

#[test]
fn a_key_elsewhere_signs_once_and_late() {
    let (leaf, asked) = leaf_with(Ok);
    assert_eq!(leaf.unwrap().facts().dns_names, ["api.example.com"]);
    assert_eq!(asked, 1, "a signature costs a call");
}

#[test]
fn a_signature_that_does_not_verify_never_leaves() {
    let (leaf, _) = leaf_with(|mut signature| {
        let last = signature.len() - 1;
        signature[last] ^= 1;
        Ok(signature)
    });
    assert!(matches!(leaf, Err(IssueError::Signature)), "{leaf:?}");
    let (leaf, _) = leaf_with(|_| Ok(Vec::new()));
    assert!(matches!(leaf, Err(IssueError::Signature)), "{leaf:?}");
}

#[test]
fn a_signer_that_fails_is_an_error_with_its_cause() {
    let (leaf, _) = leaf_with(|_| Err(SignError("throttled".into())));
    let said = espalier_domain::failure::chain(&leaf.unwrap_err());
    assert_eq!(said, "signing the certificate: the authority's key did not sign: throttled");
}

#[test]
fn a_signer_with_another_key_than_the_certificate_is_refused_before_it_is_asked() {
    let (ours, theirs) = (authority(&["example.com"], NOW), authority(&["example.com"], NOW));
    let remote = Remote { inner: theirs.signer(), asked: Mutex::default(), spoil: Ok };
    let key = key();
    let request = request(&["api.example.com"]);
    let leaf = futures::executor::block_on(issue::leaf(
        &remote,
        ours.issuing_der(),
        key.public(),
        &request,
        &policy(&request),
    ));
    assert_eq!(rules(leaf), ["the signer's key is not its issuer's"]);
    assert!(remote.asked.lock().unwrap().is_empty());
}

#[test]
fn an_authority_does_not_certify_its_own_key() {
    let authority = authority(&["example.com"], NOW);
    let own = authority.signer().public_key().clone();
    let request = request(&["api.example.com"]);
    assert_eq!(rules(try_leaf(&authority, &own, &request)), ["its key is its issuer's"]);
}
