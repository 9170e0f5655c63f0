//! Reading the environment: every variable is named in the error that misses it, and none holds a secret.

use std::collections::BTreeMap;

use crate::EdgeError;

/// The process environment, or a made-up one in tests.
#[derive(Debug, Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// The variables of this process that are valid text.
    #[expect(clippy::disallowed_methods, reason = "this is where configuration is read")]
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        )
    }

    /// A made-up environment.
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// The variable's value; `Invalid`, naming it, when it is missing or empty.
    pub fn required(&self, name: &str) -> Result<&str, EdgeError> {
        self.optional(name).ok_or_else(|| EdgeError::invalid(format!("the environment variable {name} is not set")))
    }

    /// The variable's value unless it is missing or empty.
    pub fn optional(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variable's value through a parser; `Invalid`, naming it, when it is missing or refused.
    pub fn parsed<T, E: std::fmt::Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, EdgeError> {
        parse(self.required(name)?)
            .map_err(|error| EdgeError::invalid(format!("the environment variable {name} is wrong: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_empty_variable_is_named() {
        let env = Env::of([("ESPALIER_LEDGER_TABLE", "ledger"), ("EMPTY", "")]);
        assert_eq!(env.required("ESPALIER_LEDGER_TABLE").unwrap(), "ledger");
        for name in ["EMPTY", "ABSENT"] {
            let error = env.required(name).unwrap_err();
            assert_eq!(error, EdgeError::invalid(format!("the environment variable {name} is not set")));
        }
        let error = env.parsed("ESPALIER_LEDGER_TABLE", str::parse::<u32>).unwrap_err();
        assert!(error.text.contains("ESPALIER_LEDGER_TABLE is wrong: invalid digit"), "{error}");
    }
}
