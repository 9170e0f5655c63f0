//! Step Functions: starts the execution that carries a rotation, and looks whether it still runs.
//!
//! An execution's name is taken once in 90 days. "It exists already" says nothing about whether it runs, so it counts
//! as running only after a look.

use aws_config::SdkConfig;
use aws_sdk_sfn::Client;
use aws_sdk_sfn::operation::start_execution::StartExecutionError;
use aws_sdk_sfn::types::ExecutionStatus;

use crate::error::{AwsError, during};

/// What the starter needs.
pub const ACTIONS: &[&str] = &["states:StartExecution", "states:DescribeExecution"];

/// One state machine.
#[derive(Debug, Clone)]
pub struct StateMachine {
    client: Client,
    arn: String,
}

/// Whether an execution is there and runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// It runs.
    Running,
    /// It has ended, one way or the other; its name is used up.
    Ended,
    /// There is none of that name.
    Missing,
}

impl StateMachine {
    /// The state machine with this ARN.
    pub fn new(sdk: &SdkConfig, arn: impl Into<String>) -> Self {
        Self { client: Client::new(sdk), arn: arn.into() }
    }

    /// Starts an execution under `name`; one that runs under that name already is as good. Never answers `Missing`.
    ///
    /// # Errors
    /// Step Functions'.
    pub async fn start(&self, name: &str, input: &str) -> Result<Execution, AwsError> {
        let started = self.client.start_execution().state_machine_arn(&self.arn).name(name).input(input).send().await;
        match started {
            Ok(_) => Ok(Execution::Running),
            Err(error) if error.as_service_error().is_some_and(StartExecutionError::is_execution_already_exists) => {
                match self.look(name).await? {
                    Execution::Running => Ok(Execution::Running),
                    // `DescribeExecution` is eventually consistent: what was just said to exist may not show yet.
                    // Its name is taken either way; the next look sees it.
                    Execution::Ended | Execution::Missing => Ok(Execution::Ended),
                }
            }
            Err(error) => Err(during("states:StartExecution")(error)),
        }
    }

    /// Looks at the execution called `name`.
    ///
    /// # Errors
    /// Step Functions', except that there is none.
    pub async fn look(&self, name: &str) -> Result<Execution, AwsError> {
        let answer = self.client.describe_execution().execution_arn(execution_arn(&self.arn, name)).send().await;
        match answer.map_err(during("states:DescribeExecution")) {
            Ok(execution) => Ok(state(execution.status())),
            Err(error) if error.is_not_found() => Ok(Execution::Missing),
            Err(error) => Err(error),
        }
    }
}

fn state(status: &ExecutionStatus) -> Execution {
    match status.as_str() {
        "RUNNING" | "PENDING_REDRIVE" => Execution::Running,
        // SUCCEEDED, FAILED, TIMED_OUT, ABORTED; and a word we do not know is no promise that anything runs.
        _ => Execution::Ended,
    }
}

/// `...:stateMachine:<machine>` and a name make `...:execution:<machine>:<name>`.
fn execution_arn(machine: &str, name: &str) -> String {
    format!("{}:{name}", machine.replacen(":stateMachine:", ":execution:", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_arn_is_the_machines_with_the_name() {
        assert_eq!(
            execution_arn("arn:aws:states:eu-west-1:000000000000:stateMachine:espalier-rotation", "payments-3-1"),
            "arn:aws:states:eu-west-1:000000000000:execution:espalier-rotation:payments-3-1"
        );
    }

    #[test]
    fn only_a_running_execution_runs() {
        assert_eq!(state(&ExecutionStatus::Running), Execution::Running);
        for ended in ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "SOMETHING_NEW"] {
            assert_eq!(state(&ExecutionStatus::from(ended)), Execution::Ended, "{ended}");
        }
    }
}
