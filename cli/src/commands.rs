//! What each command asks, and how it ends.

use std::path::{Path, PathBuf};

use espalier_domain::failure::chain;
use espalier_domain::id::StackName;
use espalier_domain::plan::OutcomeKind;
use espalier_domain::spec::{self, AllowedDomains};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::answer::Answer;
use crate::arguments::{Arguments, AuthorityWord, Command};
use crate::control_plane::{AskError, ControlPlane};
use crate::evidence::{CopyError, evidence};
use crate::render;

/// How a command ends; the numbers are documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// As it should be.
    Well,
    /// Somebody is needed.
    Attention,
    /// The control plane could not be asked, or did not answer.
    Unanswered,
}

impl Ending {
    /// The exit code; 2 is the command line parser's.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Attention => 1,
            Self::Unanswered => 3,
        }
    }

    fn of(kind: OutcomeKind) -> Self {
        match kind {
            OutcomeKind::Converged | OutcomeKind::Pending | OutcomeKind::Work => Self::Well,
            OutcomeKind::Blocked => Self::Attention,
        }
    }
}

/// What is printed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) text: String,
    pub(crate) ending: Ending,
}

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The control plane gave no answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// An answer is not what this version reads.
    #[error("the answer of {function} cannot be read; is the control plane of another version?")]
    Answer {
        /// Who answered.
        function: &'static str,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A copy of the evidence cannot be shown.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A file could not be read.
    #[error("reading {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file for `plan --spec` is no JSON.
    #[error("{} is not JSON; `espalier validate` says more", path.display())]
    Spec {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, now: OffsetDateTime) -> Result<Told, CommandError> {
    let plane = ControlPlane::new(&arguments.common);
    asked(&plane, &arguments.command, arguments.common.json, now)
}

/// [`run`] with a control plane at hand.
pub(crate) fn asked(
    plane: &ControlPlane<'_>,
    command: &Command,
    as_json: bool,
    now: OffsetDateTime,
) -> Result<Told, CommandError> {
    match command {
        Command::Validate { files, allowed_domains } => Ok(validate(files, allowed_domains, as_json)),
        Command::Plan { stack, spec } => plan(plane, stack, spec.as_deref(), as_json),
        Command::Status { stacks } => {
            each(plane, stacks, as_json, "status", &json!({}), |stack, answer| render::status(stack, answer, now))
        }
        Command::Check { stacks, min_slack } => {
            let more = json!({ "min_slack_days": min_slack });
            each(plane, stacks, as_json, "check", &more, |stack, answer| render::check(stack, answer, *min_slack))
        }
        Command::Rotate { stack, verify } => {
            let mode = if *verify { "verify" } else { "apply" };
            one(plane, "rotate", stack, mode, as_json, |answer| render::outcome(&answer.outcome))
        }
        Command::Emergency { stack, reason, generation } => {
            let mut more = json!({ "caller": plane.caller()?, "reason": reason });
            if let Some(generation) = generation {
                more["generation"] = json!(generation);
            }
            one_with(plane, "rotate", stack, "emergency", &more, as_json, |answer| render::outcome(&answer.outcome))
        }
        Command::Authority { word } => authority(plane, word, as_json),
        Command::Evidence { word } => evidence(plane, word, as_json),
        Command::Diagnose { stack } => one(plane, "provision", stack, "diagnose", as_json, render::diagnosis),
    }
}

/// Where the authorities stand, or a person's word about them.
fn authority(plane: &ControlPlane<'_>, word: &AuthorityWord, as_json: bool) -> Result<Told, CommandError> {
    let request = match word {
        AuthorityWord::Status => json!({ "mode": "status" }),
        AuthorityWord::Prepare => json!({ "mode": "prepare", "caller": plane.caller()? }),
        AuthorityWord::Acknowledge { verifier, authority, bundle, days } => json!({
            "mode": "acknowledge", "authority": authority, "verifier": verifier, "bundle": bundle, "days": days,
            "caller": plane.caller()?
        }),
        AuthorityWord::Activate { authority, reason } => {
            json!({ "mode": "activate", "authority": authority, "reason": reason, "caller": plane.caller()? })
        }
        AuthorityWord::Taint { authority, reason } => {
            json!({ "mode": "taint", "authority": authority, "reason": reason, "caller": plane.caller()? })
        }
        AuthorityWord::Retire { authority, reason } => {
            json!({ "mode": "retire", "authority": authority, "reason": reason, "caller": plane.caller()? })
        }
    };
    let (raw, answer) = ask(plane, "authority", &request)?;
    let text = if as_json { pretty(&raw) } else { render::authorities(&answer) };
    Ok(Told { text, ending: Ending::of(answer.outcome.outcome) })
}

/// Every mistake of every file, with its place and remedy.
fn validate(files: &[PathBuf], allowed: &AllowedDomains, as_json: bool) -> Told {
    let mut text = String::new();
    let mut all = Map::new();
    let mut ending = Ending::Well;
    for path in files {
        let mistakes = mistakes(path, allowed);
        if !mistakes.is_empty() {
            ending = Ending::Attention;
        }
        text.push_str(&render::mistakes(path, &mistakes));
        all.insert(path.display().to_string(), mistakes.into());
    }
    Told { text: if as_json { pretty(&all.into()) } else { text }, ending }
}

fn mistakes(path: &Path, allowed: &AllowedDomains) -> Vec<String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return vec![format!("it cannot be read: {}", chain(&error))],
    };
    match spec::parse(&text, allowed) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

/// Both planners' plans.
fn plan(plane: &ControlPlane<'_>, stack: &StackName, spec: Option<&Path>, as_json: bool) -> Result<Told, CommandError> {
    let mut request = json!({ "stack": stack, "mode": "plan" });
    if let Some(path) = spec {
        request["spec"] = document(path)?;
    }
    let mut text = String::new();
    let mut all = Map::new();
    let mut ending = Ending::Well;
    for function in ["provision", "rotate"] {
        let (raw, answer) = ask(plane, function, &request)?;
        ending = ending.max(Ending::of(answer.outcome.outcome));
        text.push_str(&render::plan(function, &answer));
        all.insert(function.to_owned(), raw);
    }
    Ok(Told { text: if as_json { pretty(&all.into()) } else { text }, ending })
}

fn document(path: &Path) -> Result<Value, CommandError> {
    let text = std::fs::read(path).map_err(|source| CommandError::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| CommandError::Spec { path: path.to_owned(), source })
}

/// Asks `rotate` about each stack, or about all there are.
fn each(
    plane: &ControlPlane<'_>,
    stacks: &[StackName],
    as_json: bool,
    mode: &str,
    more: &Value,
    shown: impl Fn(&StackName, &Answer) -> String,
) -> Result<Told, CommandError> {
    let stacks = if stacks.is_empty() { plane.stacks()? } else { stacks.to_vec() };
    if stacks.is_empty() && !as_json {
        return Ok(Told { text: "there is no spec under /espalier-spec/\n".to_owned(), ending: Ending::Well });
    }
    let mut texts = Vec::new();
    let mut all = Map::new();
    let mut ending = Ending::Well;
    for stack in &stacks {
        let (raw, answer) = ask(plane, "rotate", &request(stack, mode, more))?;
        ending = ending.max(Ending::of(answer.outcome.outcome));
        texts.push(shown(stack, &answer));
        all.insert(stack.to_string(), raw);
    }
    Ok(Told { text: if as_json { pretty(&all.into()) } else { texts.join("\n") }, ending })
}

/// Asks one function about one stack.
fn one(
    plane: &ControlPlane<'_>,
    function: &'static str,
    stack: &StackName,
    mode: &str,
    as_json: bool,
    shown: impl Fn(&Answer) -> String,
) -> Result<Told, CommandError> {
    one_with(plane, function, stack, mode, &json!({}), as_json, shown)
}

/// The same with more to say.
fn one_with(
    plane: &ControlPlane<'_>,
    function: &'static str,
    stack: &StackName,
    mode: &str,
    more: &Value,
    as_json: bool,
    shown: impl Fn(&Answer) -> String,
) -> Result<Told, CommandError> {
    let (raw, answer) = ask(plane, function, &request(stack, mode, more))?;
    let text = if as_json { pretty(&raw) } else { shown(&answer) };
    Ok(Told { text, ending: Ending::of(answer.outcome.outcome) })
}

fn request(stack: &StackName, mode: &str, more: &Value) -> Value {
    let mut request = json!({ "stack": stack, "mode": mode });
    for (name, value) in more.as_object().into_iter().flatten() {
        request[name] = value.clone();
    }
    request
}

fn ask(plane: &ControlPlane<'_>, function: &'static str, request: &Value) -> Result<(Value, Answer), CommandError> {
    let raw: Value = plane.ask(function, request)?;
    let answer = Answer::read(&raw).map_err(|source| CommandError::Answer { function, source })?;
    Ok((raw, answer))
}

pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
