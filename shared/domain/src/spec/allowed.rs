//! Which DNS names may be certified at all: a deny-by-default list held with the control plane, not in specs.

use crate::id::{HostName, NotAnId};

/// The domains at or below which names may be certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedDomains(Vec<HostName>);

/// An entry of `AllowedDomains` is no domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("AllowedDomains: give lower-case domains separated by commas")]
pub struct NotADomain(#[from] NotAnId);

impl AllowedDomains {
    /// Reads a list separated by commas. An empty list allows nothing.
    pub fn parse(text: &str) -> Result<Self, NotADomain> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        Ok(Self(entries.map(HostName::parse).collect::<Result<_, _>>()?))
    }

    /// Whether `name` is one of the domains or below one.
    pub fn allows(&self, name: &HostName) -> bool {
        self.0.iter().any(|domain| {
            name.as_str().strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// Whether a certificate may carry this DNS name, which may be a wildcard.
    pub fn certifies(&self, name: &str) -> bool {
        let plain = name.to_ascii_lowercase();
        let plain = plain.strip_prefix("*.").unwrap_or(&plain);
        HostName::parse(plain).is_ok_and(|name| self.allows(&name))
    }

    /// The domains, for name constraints and messages.
    pub fn domains(&self) -> &[HostName] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_a_domain_and_what_is_below_it_and_nothing_else() {
        let allowed = AllowedDomains::parse("example.com, internal.corp").unwrap();
        for good in ["example.com", "a.example.com", "a.b.internal.corp"] {
            assert!(allowed.allows(&HostName::parse(good).unwrap()), "{good}");
        }
        for bad in ["badexample.com", "example.org", "com.example", "example.com.evil.net"] {
            assert!(!allowed.allows(&HostName::parse(bad).unwrap()), "{bad}");
        }
        assert!(!AllowedDomains::parse("").unwrap().allows(&HostName::parse("a.example.com").unwrap()));
        assert!(AllowedDomains::parse("*.example.com").is_err());
        for (name, certified) in
            [("*.Example.com", true), ("*.example.org", false), ("*", false), ("*.*.example.com", false)]
        {
            assert_eq!(allowed.certifies(name), certified, "{name}");
        }
    }
}
