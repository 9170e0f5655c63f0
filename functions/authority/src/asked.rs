//! What `authority` may be asked: work of the state machine's, a look, or a person's word. No event is taken: what is said of an
//! authority is a direct invocation's to say.

use espalier_domain::authority::Word;
use espalier_domain::id::{Caller, Reason, VerifierName};
use espalier_domain::work::WorkItem;
use espalier_edge::request::{Subject, strict, sweep};
use espalier_edge::{EdgeError, Request};
use serde::Deserialize;
use serde_json::Value;
use time::Duration;

/// The longest that an operator's word may hold.
const LONGEST_DAYS: u32 = 90;

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// The state machine's.
    Work(WorkItem),
    /// The schedule's or a person's: look, and do what can be done now.
    Look,
    /// Say how things stand; change nothing.
    Status,
    /// A person's word.
    Said {
        /// Which.
        word: Word,
        /// Who says it, by their own word: Lambda does not tell a function who invokes it.
        caller: Caller,
    },
}

impl Request for Asked {
    fn parse(payload: Value) -> Result<Self, EdgeError> {
        let mut fields = payload;
        let has = |fields: &Value, field: &str| fields.get(field).is_some();
        if has(&fields, "espalier") {
            return sweep(fields).map(|()| Self::Look);
        }
        if has(&fields, "kind") || !has(&fields, "mode") {
            return WorkItem::parse(fields).map(Self::Work);
        }
        let mode = fields.as_object_mut().and_then(|fields| fields.remove("mode")).unwrap_or_default();
        let what = "request";
        match mode.as_str() {
            Some("apply") => strict(fields, what).map(|Nothing {}| Self::Look),
            Some("status") => strict(fields, what).map(|Nothing {}| Self::Status),
            Some("prepare") => {
                let Asking { caller } = strict(fields, what)?;
                Ok(Self::Said { word: Word::Prepare, caller })
            }
            Some("acknowledge") => acknowledged(strict(fields, what)?),
            Some("activate") => {
                let Deciding { authority, caller, reason } = strict(fields, what)?;
                Ok(Self::Said { word: Word::Activate { authority, reason }, caller })
            }
            Some("taint") => {
                let Deciding { authority, caller, reason } = strict(fields, what)?;
                Ok(Self::Said { word: Word::Taint { authority, reason }, caller })
            }
            Some("retire") => {
                let Deciding { authority, caller, reason } = strict(fields, what)?;
                Ok(Self::Said { word: Word::Retire { authority, reason }, caller })
            }
            Some(_) | None => Err(EdgeError::invalid(format!(
                "request, field `mode`: {mode} is none of \"apply\", \"status\", \"prepare\", \"acknowledge\", \"activate\", \
                 \"taint\" and \"retire\""
            ))),
        }
    }

    fn subject(&self) -> Subject {
        match self {
            Self::Work(item) => item.into(),
            Self::Look => Subject::of("look"),
            Self::Status => Subject::of("status"),
            Self::Said { .. } => Subject::of("word"),
        }
    }
}

fn acknowledged(said: Acknowledging) -> Result<Asked, EdgeError> {
    let Acknowledging { authority, verifier, bundle, days, caller } = said;
    if days == 0 || days > LONGEST_DAYS {
        return Err(EdgeError::invalid(format!("request, field `days`: {days} is not within 1 and {LONGEST_DAYS}")));
    }
    let holds = Duration::days(i64::from(days));
    Ok(Asked::Said { word: Word::Acknowledge { authority, verifier, bundle, holds }, caller })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asking {
    caller: Caller,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deciding {
    authority: String,
    caller: Caller,
    reason: Reason,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledging {
    authority: String,
    verifier: VerifierName,
    bundle: String,
    days: u32,
    caller: Caller,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CALLER: &str = "arn:aws:iam::111122223333:user/operator";

    fn refused(payload: Value) -> String {
        let error = Asked::parse(payload).unwrap_err();
        assert_eq!(error.word, espalier_domain::failure::Word::Invalid);
        error.text
    }

    #[test]
    fn a_persons_word_names_who_says_it() {
        let said = json!({"mode": "activate", "authority": "a", "caller": CALLER, "reason": "it was stolen"});
        assert!(matches!(Asked::parse(said), Ok(Asked::Said { word: Word::Activate { .. }, .. })));
        assert!(refused(json!({"mode": "activate", "authority": "a", "reason": "why"})).contains("`caller`"));
        for mode in ["taint", "retire"] {
            assert!(refused(json!({"mode": mode, "authority": "a", "caller": CALLER})).contains("`reason`"));
        }
        let said = json!({"mode": "taint", "authority": "a", "caller": CALLER, "reason": "it was stolen"});
        assert!(matches!(Asked::parse(said), Ok(Asked::Said { word: Word::Taint { .. }, .. })));
        assert!(refused(json!({"mode": "prepare"})).contains("`caller`"));
        assert!(refused(json!({"mode": "prepare", "caller": CALLER, "beside": "a"})).contains("beside"));
    }

    #[test]
    fn an_acknowledgement_ends() {
        let said = |days: u32| {
            json!({"mode": "acknowledge", "authority": "a", "verifier": "batch", "bundle": "b", "days": days,
                "caller": CALLER})
        };
        assert!(matches!(Asked::parse(said(90)), Ok(Asked::Said { word: Word::Acknowledge { .. }, .. })));
        for days in [0, 91] {
            assert!(refused(said(days)).contains("`days`"));
        }
    }

    #[test]
    fn no_event_says_anything() {
        let said = json!({"mode": "activate", "authority": "a", "caller": CALLER, "reason": "why"});
        let mut with_source = said.clone();
        with_source["source"] = json!("espalier");
        refused(with_source);
        refused(json!({"source": "espalier", "detail-type": "Rotate Requested", "detail": said}));
        assert!(refused(json!({"espalier": "sweep", "mode": "activate"})).contains("mode"));
        assert_eq!(Asked::parse(json!({"espalier": "sweep"})), Ok(Asked::Look));
    }
}
