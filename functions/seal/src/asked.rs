//! What `seal` may be asked: the schedule's word, or a person's.

use espalier_edge::request::{Subject, strict, sweep};
use espalier_edge::{EdgeError, Request};
use serde::Deserialize;
use serde_json::Value;

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The schedule's: seal what has not just been sealed.
    Sweep,
    /// A person's: seal everything now.
    Seal,
    /// Say where the evidence is and how far it goes; change nothing.
    Status,
}

impl Request for Asked {
    fn parse(payload: Value) -> Result<Self, EdgeError> {
        if payload.get("espalier").is_some() {
            return sweep(payload).map(|()| Self::Sweep);
        }
        let Asking { mode } = strict(payload, "request")?;
        Ok(match mode {
            Mode::Seal => Self::Seal,
            Mode::Status => Self::Status,
        })
    }

    fn subject(&self) -> Subject {
        Subject::of(match self {
            Self::Sweep => "sweep",
            Self::Seal => "seal",
            Self::Status => "status",
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asking {
    mode: Mode,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Seal,
    Status,
}

#[cfg(test)]
mod tests {
    use super::*;
    use espalier_domain::failure::Word;
    use serde_json::json;

    #[test]
    fn a_person_seals_now_and_the_schedule_what_is_due() {
        assert_eq!(Asked::parse(json!({"espalier": "sweep"})), Ok(Asked::Sweep));
        assert_eq!(Asked::parse(json!({"mode": "seal"})), Ok(Asked::Seal));
        assert_eq!(Asked::parse(json!({"mode": "status"})), Ok(Asked::Status));
        for wrong in [json!({}), json!({"mode": "open"}), json!({"mode": "seal", "stack": "pay"}), json!([])] {
            assert_eq!(Asked::parse(wrong).unwrap_err().word, Word::Invalid);
        }
    }
}
