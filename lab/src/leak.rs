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

/// What one compiled search may weigh: some hundred keys in some thirty forms. More keys are sought by several.
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

/// A search that cannot be made. Nobody may go on without it: it would find nothing, and that reads like a clean run.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// Not even one needle by itself fits into what a compiled search may weigh.
    #[error("compiling the search for {needles} forms of keys")]
    Needles {
        /// How many could not be compiled together.
        needles: usize,
        /// The cause.
        #[source]
        source: regex::Error,
    },
    /// The mark by which unknown keys are found.
    #[error("compiling the search for unknown keys")]
    Marker(#[source] regex::Error),
}

/// A search for the keys of one run.
#[derive(Debug)]
pub struct Search {
    names: Vec<String>,
    needles: BTreeMap<Vec<u8>, (usize, &'static str)>,
    /// All needles; empty only when there is no key.
    known: Vec<Regex>,
    marker: Regex,
    leaks: BTreeSet<Leak>,
    places: usize,
}

impl Search {
    /// Prepares to look for these keys; one that is named twice is looked for once.
    ///
    /// # Errors
    /// When the search cannot be compiled: never one that looks for less.
    pub fn new(secrets: &[Secret]) -> Result<Self, SearchError> {
        Self::within(secrets, COMPILED)
    }

    fn within(secrets: &[Secret], compiled: usize) -> Result<Self, SearchError> {
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
        // Longer ones first: of two needles that begin alike the more telling one is meant.
        let mut sought: Vec<&[u8]> = needles.keys().map(Vec::as_slice).filter(|needle| !needle.is_empty()).collect();
        sought.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
        let known = any_of(&sought, compiled)?;
        // A PEM block of any private key with the beginning of its body.
        let marker = Regex::new(r"-----BEGIN[A-Z]*PRIVATEKEY-----([A-Za-z0-9+/]{24,})").map_err(SearchError::Marker)?;
        Ok(Self { names, needles, known, marker, leaks: BTreeSet::new(), places: 0 })
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
        let marked = self.marker.captures_iter(undone);
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

/// Alternatives of plain bytes: as few searches as do not weigh more than this each, and together every needle.
fn any_of(needles: &[&[u8]], compiled: usize) -> Result<Vec<Regex>, SearchError> {
    if needles.is_empty() {
        return Ok(Vec::new());
    }
    let escaped: Vec<String> =
        needles.iter().map(|needle| needle.iter().map(|byte| format!("\\x{byte:02x}")).collect()).collect();
    let all =
        RegexBuilder::new(&escaped.join("|")).unicode(false).size_limit(compiled).dfa_size_limit(compiled).build();
    match all {
        Ok(all) => Ok(vec![all]),
        Err(regex::Error::CompiledTooBig(_)) if needles.len() > 1 => {
            let (longer, shorter) = needles.split_at(needles.len() / 2);
            Ok([any_of(longer, compiled)?, any_of(shorter, compiled)?].concat())
        }
        Err(source) => Err(SearchError::Needles { needles: needles.len(), source }),
    }
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
