//! The leak check: every private key that existed in a run is looked for in everything the run left behind.
//!
//! A key is sought as PEM body lines, as one base64 string, as hexadecimal (both cases) and as DER bytes. The places
//! where a key may be (the SecureString's own traffic, the authority's secret, the targets' key files) are not handed
//! to [`Search`]; everything else is.

use std::collections::BTreeSet;

use base64::Engine as _;
use regex::bytes::Regex;

/// A private key that existed in the run.
pub struct Secret {
    /// How a person would call it.
    pub name: String,
    /// The PEM text it was found in (other PEM blocks beside it are ignored).
    pub pem: String,
}

/// A place where a key was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Leak {
    /// Which key.
    pub secret: String,
    /// Where: a file, a request, a parameter.
    pub place: String,
    /// In which form: `pem`, `base64`, `hex`, `der`, `marker`.
    pub form: &'static str,
}

/// The forms of one key.
struct Needles {
    name: String,
    forms: Vec<(&'static str, Vec<u8>)>,
}

/// A search for the keys of one run.
pub struct Search {
    needles: Vec<Needles>,
    marker: Option<Regex>,
    leaks: BTreeSet<Leak>,
    places: usize,
}

impl Search {
    /// Prepares to look for these keys.
    pub fn new(secrets: &[Secret]) -> Self {
        let needles = secrets.iter().flat_map(needles_of).collect();
        // A PEM block of any private key with the beginning of its body; line ends may be escaped, as in JSON.
        let marker = Regex::new(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(\s|\\n|\\r)*[A-Za-z0-9+/]{24}").ok();
        Self { needles, marker, leaks: BTreeSet::new(), places: 0 }
    }

    /// How many keys are looked for.
    pub fn keys(&self) -> usize {
        self.needles.len()
    }

    /// How many places were searched.
    pub fn places(&self) -> usize {
        self.places
    }

    /// Looks into one place.
    pub fn look(&mut self, place: &str, content: &[u8]) {
        self.places += 1;
        for needle in &self.needles {
            for (form, bytes) in &needle.forms {
                if contains(content, bytes) {
                    self.leaks.insert(Leak { secret: needle.name.clone(), place: place.to_owned(), form });
                }
            }
        }
        // A key we do not know of is a leak too; the words alone (in the installer, say) are none.
        if self.marker.as_ref().is_some_and(|marker| marker.is_match(content)) {
            let secret = "an unknown key".to_owned();
            self.leaks.insert(Leak { secret, place: place.to_owned(), form: "marker" });
        }
    }

    /// What was found.
    pub fn leaks(self) -> Vec<Leak> {
        self.leaks.into_iter().collect()
    }
}

fn needles_of(secret: &Secret) -> Vec<Needles> {
    private_blocks(&secret.pem)
        .into_iter()
        .map(|lines| {
            let base64 = lines.concat();
            let der = decode_base64(&base64);
            // The last line can be a few characters of padding: only lines long enough to be unique count.
            let mut forms: Vec<(&'static str, Vec<u8>)> =
                lines.iter().filter(|line| line.len() >= 24).map(|line| ("pem", line.clone().into_bytes())).collect();
            forms.push(("base64", base64.into_bytes()));
            let hex: String = der.iter().map(|byte| format!("{byte:02x}")).collect();
            forms.push(("hex", hex.to_uppercase().into_bytes()));
            forms.push(("hex", hex.into_bytes()));
            forms.push(("der", der));
            Needles { name: secret.name.clone(), forms }
        })
        .collect()
}

/// The base64 lines of every private key block in `pem`.
fn private_blocks(pem: &str) -> Vec<Vec<String>> {
    let mut blocks = Vec::new();
    let mut current: Option<Vec<String>> = None;
    for line in pem.lines().map(str::trim) {
        if line.starts_with("-----BEGIN ") && line.ends_with("PRIVATE KEY-----") {
            current = Some(Vec::new());
        } else if line.starts_with("-----END ") {
            blocks.extend(current.take().filter(|lines| !lines.is_empty()));
        } else if let Some(lines) = current.as_mut() {
            lines.push(line.to_owned());
        }
    }
    blocks
}

fn decode_base64(text: &str) -> Vec<u8> {
    // What is not base64 was never a key: nothing to look for in its decoded forms.
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && memchr::memmem::find(haystack, needle).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAAECAwQFBgcICQoL\n\
                       DA0ODxAREhMUFRYXGBkaGxwdHh8=\n-----END PRIVATE KEY-----\n";

    fn found(content: &[u8]) -> Vec<&'static str> {
        let mut search = Search::new(&[Secret { name: "leaf 1".into(), pem: PEM.into() }]);
        assert_eq!(search.keys(), 1);
        search.look("a log", content);
        search.leaks().into_iter().map(|leak| leak.form).collect()
    }

    #[test]
    fn finds_a_key_in_every_form() {
        let base64 = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let der = decode_base64(base64);
        let hex: String = der.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(found(format!("x{base64}y").as_bytes()), ["base64", "pem"]);
        assert_eq!(found(hex.as_bytes()), ["hex"]);
        assert_eq!(found(hex.to_uppercase().as_bytes()), ["hex"]);
        assert_eq!(found(&[b"..", der.as_slice()].concat()), ["der"]);
        assert_eq!(found(PEM.as_bytes()), ["marker", "pem"]);
    }

    #[test]
    fn is_quiet_where_there_is_none() {
        assert!(found(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----").is_empty());
    }

    #[test]
    fn an_unknown_key_is_found_by_its_marker() {
        assert_eq!(found(b"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIAABAgMEBQYHCAkKCwwNDg8Q"), ["marker"]);
        assert_eq!(found(br"-----BEGIN PRIVATE KEY-----\nMHcCAQEEIAABAgMEBQYHCAkKCwwNDg8Q"), ["marker"]);
        assert!(found(b"/^-----BEGIN ([A-Z]+ )?PRIVATE KEY-----$/").is_empty());
    }
}
