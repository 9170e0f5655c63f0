//! The leak check: every private key that existed in a run is looked for in everything the run left behind.
//!
//! Of each key the *secret part* is sought, because a public key is no leak and lies in every certificate: as DER bytes,
//! hexadecimal, decimal bytes, base64 of either alphabet, wrapped or not, at any alignment within something larger, and as
//! base64 of its PEM text. Content is read as it lies and once more with white space, escapes and percent signs undone.
//! Where a key may be (the stores' own values, the targets' key files) is not handed to [`Search`]; everything else is.

mod forms;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::bytes::{Regex, RegexBuilder};

use forms::{core_of, forms_of, undone};

/// What a compiled search may weigh: some hundred keys in some thirty forms.
const COMPILED: usize = 512 << 20;

/// A private key that existed in the run.
#[derive(Debug, Clone)]
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
    /// In which form: `pem`, `base64`, `base64 of pem`, `hex`, `decimal`, `der`, `marker`.
    pub form: &'static str,
}

/// A search for the keys of one run.
pub struct Search {
    names: Vec<String>,
    needles: BTreeMap<Vec<u8>, (usize, &'static str)>,
    /// All needles at once; none when there is no key.
    known: Option<Regex>,
    marker: Option<Regex>,
    leaks: BTreeSet<Leak>,
    places: usize,
}

impl Search {
    /// Prepares to look for these keys; one that is named twice is looked for once.
    pub fn new(secrets: &[Secret]) -> Self {
        let (mut names, mut needles, mut seen) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        for secret in secrets {
            for lines in private_blocks(&secret.pem) {
                if !seen.insert(core_of(&lines)) {
                    continue;
                }
                for (form, bytes) in forms_of(&lines) {
                    needles.entry(bytes).or_insert((names.len(), form));
                }
                names.push(secret.name.clone());
            }
        }
        let known = any_of(needles.keys());
        // A PEM block of any private key with the beginning of its body.
        let marker = Regex::new(r"-----BEGIN[A-Z]*PRIVATEKEY-----([A-Za-z0-9+/]{24,})").ok();
        Self { names, needles, known, marker, leaks: BTreeSet::new(), places: 0 }
    }

    /// How many keys are looked for.
    pub fn keys(&self) -> usize {
        self.names.len()
    }

    /// How many places were searched.
    pub fn places(&self) -> usize {
        self.places
    }

    /// Looks into one place.
    pub fn look(&mut self, place: &str, content: &[u8]) {
        self.places += 1;
        let undone = undone(content);
        let mut found = self.known_in(content);
        found.extend(self.known_in(&undone));
        for (secret, form) in found {
            self.leaks.insert(Leak { secret: self.names[secret].clone(), place: place.to_owned(), form });
        }
        // A key we do not know of is a leak, too; the words alone (in the installer, say) are none.
        if self.has_unknown(&undone) {
            let secret = "an unknown key".to_owned();
            self.leaks.insert(Leak { secret, place: place.to_owned(), form: "marker" });
        }
    }

    /// What was found.
    pub fn leaks(self) -> Vec<Leak> {
        self.leaks.into_iter().collect()
    }

    fn known_in(&self, content: &[u8]) -> BTreeSet<(usize, &'static str)> {
        let found = self.known.iter().flat_map(|known| known.find_iter(content));
        found.filter_map(|found| self.needles.get(found.as_bytes())).copied().collect()
    }

    fn has_unknown(&self, undone: &[u8]) -> bool {
        let marked = self.marker.iter().flat_map(|marker| marker.captures_iter(undone));
        marked.filter_map(|marked| marked.get(1)).any(|body| self.known_in(body.as_bytes()).is_empty())
    }
}

/// Every private key in something that was sent or written: PEM, escaped or not, whatever stands around it.
pub fn keys_in(name: &str, content: &[u8]) -> Vec<Secret> {
    let text = String::from_utf8_lossy(content);
    if !text.contains("PRIVATE KEY-----") {
        return Vec::new();
    }
    // JSON in JSON escapes its escapes; quotes end what may follow on the same line.
    let mut plain = text.into_owned();
    while plain.contains("\\\\") {
        plain = plain.replace("\\\\", "\\");
    }
    let plain = plain.replace("\\r", "").replace("\\n", "\n").replace("\\/", "/").replace('"', "\n");
    if private_blocks(&plain).is_empty() { Vec::new() } else { vec![Secret { name: name.to_owned(), pem: plain }] }
}

/// A secret that is no key but a word of its own, sought in all the forms in which a key is.
pub fn word(name: &str, word: &str) -> Secret {
    let body = STANDARD.encode(word);
    Secret { name: name.to_owned(), pem: format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n") }
}

/// Alternatives of plain bytes.
fn any_of<'a>(needles: impl Iterator<Item = &'a Vec<u8>>) -> Option<Regex> {
    // Longer ones first: of two needles that begin alike the more telling one is meant.
    let mut needles: Vec<&Vec<u8>> = needles.filter(|needle| !needle.is_empty()).collect();
    needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
    let escaped: Vec<String> =
        needles.iter().map(|needle| needle.iter().map(|byte| format!("\\x{byte:02x}")).collect()).collect();
    if escaped.is_empty() {
        return None;
    }
    RegexBuilder::new(&escaped.join("|")).unicode(false).size_limit(COMPILED).dfa_size_limit(COMPILED).build().ok()
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

#[cfg(test)]
mod tests;
