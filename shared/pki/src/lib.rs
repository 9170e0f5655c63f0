//! Keys and certificates: what a leaf, an issuing and a root certificate look like, and how they come to be signed.
//!
//! Pure but for entropy: no runtime, no network, no clock (`now` is an argument). The private halves live in
//! [`key::PrivateKey`] and [`key::SecretText`], which cannot be cloned, printed or serialised and are wiped when they
//! are dropped. Signing is asynchronous ([`issue::Signer`]), because the key may be in another machine. Nothing is signed
//! that did not pass the [`lint`], and nothing is handed out whose signature was not checked first.

pub mod authority;
pub mod bundle;
pub mod export;
pub mod inspect;
pub mod issue;
pub mod key;
pub mod lint;
pub mod pem;
pub mod profile;
pub mod request;
mod sealed;

pub use sealed::BadSealed;
