//! Asking the functions, through the AWS CLI: whatever signs the operator in (profiles, IAM Identity Center, roles, MFA)
//! is signed in here, too, and nothing of it is ours to keep (`docs/decisions/0011-the-operators-own-aws-cli.md`).

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use espalier_domain::id::{Caller, StackName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::arguments::Common;

/// As long as a function may run (AWS Lambda developer guide, quotas), in seconds.
const LONGEST_S: &str = "900";

/// Lines of the AWS CLI's complaint that are passed on.
const LINES: usize = 5;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The AWS CLI could not be started.
    #[error("the AWS CLI could not be started; `espalier` needs `aws` in PATH")]
    Start(#[source] std::io::Error),
    /// The AWS CLI ended with an error.
    #[error("aws {asked}: {complaint}")]
    Failed {
        /// Service and operation.
        asked: String,
        /// The end of what it said.
        complaint: String,
    },
    /// A file for the question or the answer could not be used.
    #[error("a temporary file")]
    File(#[source] std::io::Error),
    /// The answer is not what this version reads.
    #[error("the answer of {asked} cannot be read; is the control plane of another version?")]
    Answer {
        /// Who was asked.
        asked: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The function answered with an error.
    #[error("{function} failed with {word}: {text}")]
    Function {
        /// The function.
        function: String,
        /// The stable word.
        word: String,
        /// One line for a person.
        text: String,
    },
}

/// The control plane as the operator reaches it.
#[derive(Debug)]
pub(crate) struct ControlPlane<'a> {
    common: &'a Common,
    program: &'a str,
}

/// What `aws lambda invoke` prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Invoked {
    function_error: Option<String>,
}

/// A failed invocation's payload (AWS Lambda developer guide, errors of custom runtimes).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    error_message: String,
}

impl<'a> ControlPlane<'a> {
    pub(crate) fn new(common: &'a Common) -> Self {
        Self { common, program: "aws" }
    }

    #[cfg(test)]
    pub(crate) fn through(common: &'a Common, program: &'a str) -> Self {
        Self { common, program }
    }

    /// Invokes a function and reads its answer.
    pub(crate) fn ask<T: DeserializeOwned>(&self, function: &str, request: &Value) -> Result<T, AskError> {
        let function = format!("{}-{function}", self.common.control_plane);
        let mut question = tempfile::NamedTempFile::new().map_err(AskError::File)?;
        question.write_all(request.to_string().as_bytes()).map_err(AskError::File)?;
        let answer = tempfile::NamedTempFile::new().map_err(AskError::File)?;
        let mut payload = std::ffi::OsString::from("fileb://");
        payload.push(question.path());
        let mut command =
            self.aws(&["lambda", "invoke", "--cli-read-timeout", LONGEST_S, "--function-name", &function]);
        command.arg("--payload").arg(payload).arg(answer.path());
        let invoked: Invoked = output("lambda invoke", &mut command)?;
        let text = std::fs::read(answer.path()).map_err(AskError::File)?;
        let unreadable = |source| AskError::Answer { asked: function.clone(), source };
        if invoked.function_error.is_some() {
            let failure: Failure = serde_json::from_slice(&text).map_err(unreadable)?;
            return Err(AskError::Function { function, word: failure.error_type, text: failure.error_message });
        }
        serde_json::from_slice(&text).map_err(unreadable)
    }

    /// Every stack that has a spec, by name.
    pub(crate) fn stacks(&self) -> Result<Vec<StackName>, AskError> {
        let list = ["ssm", "get-parameters-by-path", "--path", "/espalier-spec", "--query", "Parameters[].Name"];
        let names: Vec<String> = output("ssm get-parameters-by-path", &mut self.aws(&list))?;
        let last = |name: &String| name.rsplit('/').next().and_then(|last| StackName::parse(last).ok());
        let mut stacks: Vec<StackName> = names.iter().filter_map(last).collect();
        stacks.sort();
        Ok(stacks)
    }

    /// Who asks: the principal that AWS takes the operator for.
    pub(crate) fn caller(&self) -> Result<Caller, AskError> {
        output("sts get-caller-identity", &mut self.aws(&["sts", "get-caller-identity", "--query", "Arn"]))
    }

    /// The public half of a key in AWS KMS, base64.
    pub(crate) fn public_key(&self, key: &str) -> Result<String, AskError> {
        let asked = ["kms", "get-public-key", "--key-id", key, "--query", "PublicKey"];
        output("kms get-public-key", &mut self.aws(&asked))
    }

    /// Copies a bucket into a directory: what is there already is not copied again.
    pub(crate) fn copy(&self, bucket: &str, directory: &Path) -> Result<(), AskError> {
        let (from, to) = (format!("s3://{bucket}/"), directory.to_string_lossy());
        run("s3 sync", &mut self.aws(&["s3", "sync", &from, &to, "--only-show-errors"])).map(drop)
    }

    fn aws(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        // One document on standard output, whatever the operator's configuration says.
        command.args(arguments).args(["--output", "json"]).env("AWS_PAGER", "");
        for (option, value) in [("--profile", &self.common.profile), ("--region", &self.common.region)] {
            if let Some(value) = value {
                command.arg(option).arg(value);
            }
        }
        command
    }
}

fn output<T: DeserializeOwned>(asked: &str, command: &mut Command) -> Result<T, AskError> {
    let said = run(asked, command)?;
    serde_json::from_slice(&said).map_err(|source| AskError::Answer { asked: asked.to_owned(), source })
}

fn run(asked: &str, command: &mut Command) -> Result<Vec<u8>, AskError> {
    let output = command.stdin(std::process::Stdio::null()).output().map_err(AskError::Start)?;
    if !output.status.success() {
        let all = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = all.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let complaint = lines[lines.len().saturating_sub(LINES)..].join(" ");
        return Err(AskError::Failed { asked: asked.to_owned(), complaint });
    }
    Ok(output.stdout)
}
