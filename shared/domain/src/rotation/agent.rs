//! SSM Agent's versions: which of them can run the installer's document at all.

use std::fmt;

/// A version of SSM Agent, as Systems Manager's inventory tells it (`AgentVersion`): up to four numbers, compared one after
/// the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentVersion([u32; 4]);

impl AgentVersion {
    /// The first that knows `interpolationType: ENV_VAR`, by which the installer is given its parameters (Systems Manager user
    /// guide, "Document parameters"). An older one would run the script without any.
    pub const OLDEST: Self = Self([3, 3, 2746, 0]);

    /// Reads a version; nothing where it is none, of which nothing can be said.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = [0; 4];
        let mut given = text.split('.');
        for (n, number) in numbers.iter_mut().enumerate() {
            match given.next() {
                Some(part) => *number = part.parse().ok()?,
                None if n > 0 => break,
                None => return None,
            }
        }
        given.next().is_none().then_some(Self(numbers))
    }
}

impl fmt::Display for AgentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, build, revision] = self.0;
        write!(f, "{major}.{minor}.{build}.{revision}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let version = |text| AgentVersion::parse(text).unwrap();
        for older in ["3.3.2745.9", "3.3.987.0", "3.2.9999.0", "2.3.1644.0", "3.3", "3"] {
            assert!(version(older) < AgentVersion::OLDEST, "{older}");
        }
        for recent in ["3.3.2746.0", "3.3.2746", "3.3.3572.0", "3.4.0.0", "10.0.0.0"] {
            assert!(version(recent) >= AgentVersion::OLDEST, "{recent}");
        }
        assert_eq!(version("3.3.2746.0").to_string(), "3.3.2746.0");
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in ["", ".", "3.", "3.3.2746.0.1", "3.3.x.0", "v3.3.2746.0", "-1.0.0.0", "4294967296.0.0.0"] {
            assert_eq!(AgentVersion::parse(text), None, "{text}");
        }
    }
}
