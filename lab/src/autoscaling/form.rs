//! The query protocol's requests: a form whose keys say where in the input a value belongs (`Tags.member.1.Key`).

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::Query;
use axum::http::Uri;

use super::rules::{Refusal, Rule};

/// A request's fields.
#[derive(Debug, Clone, Default)]
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let no_form = |why: String| Refusal::new(Rule::NoForm, why);
        let text = std::str::from_utf8(body).map_err(|error| no_form(error.to_string()))?;
        let uri: Uri = format!("/?{text}").parse().map_err(|error| no_form(format!("{error}")))?;
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&uri).map_err(|error| no_form(error.to_string()))?;
        Ok(Self(pairs.0.into_iter().collect()))
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub(super) fn required(&self, key: &str) -> Result<&str, Refusal> {
        self.text(key).filter(|text| !text.is_empty()).ok_or_else(|| Refusal::new(Rule::Missing, key))
    }

    pub(super) fn number(&self, key: &str) -> Result<usize, Refusal> {
        let text = self.required(key)?;
        text.parse().map_err(|_| Refusal::new(Rule::Capacity, text))
    }

    /// The values of a list of texts, in order of their numbers.
    pub(super) fn list(&self, prefix: &str) -> Vec<&str> {
        self.indices(prefix).into_iter().filter_map(|number| self.text(&format!("{prefix}.{number}"))).collect()
    }

    /// The structures of a list, each as a form of its own.
    pub(super) fn structures(&self, prefix: &str) -> Vec<Self> {
        let one = |number| {
            let start = format!("{prefix}.{number}.");
            let inner =
                self.0.iter().filter_map(|(key, value)| Some((key.strip_prefix(&start)?.to_owned(), value.clone())));
            Self(inner.collect())
        };
        self.indices(prefix).into_iter().map(one).collect()
    }

    fn indices(&self, prefix: &str) -> BTreeSet<usize> {
        let rests = self.0.keys().filter_map(|key| key.strip_prefix(prefix)?.strip_prefix('.'));
        rests.filter_map(|rest| rest.split('.').next()?.parse().ok()).collect()
    }
}
