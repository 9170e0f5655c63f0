//! Secrets Manager: the authority's secret, created once.
//!
//! `CreateSecret` is the compare-and-set: of two first mints one creates the secret, the other is told that it exists
//! and reads the winner's, so two of them make one authority. The secret is never overwritten from here.

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::create_secret::CreateSecretError;
use espalier_pki::key::SecretText;

use crate::error::{AwsError, during};

/// What the user of the secret needs.
pub const READ: &[&str] = &["secretsmanager:GetSecretValue"];

/// What whoever makes the secret needs beside that.
pub const CREATE: &[&str] = &["secretsmanager:CreateSecret"];

/// Secrets Manager.
#[derive(Debug, Clone)]
pub struct Secrets {
    client: Client,
}

/// Whose secret is under the name now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// Ours.
    Ours,
    /// One that was there before.
    Taken,
}

impl Secrets {
    /// Secrets Manager of the configured account and region.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self { client: Client::new(sdk) }
    }

    /// The secret's current text, or nothing when there is no such secret (or it has no text yet).
    ///
    /// # Errors
    /// Secrets Manager's; among them a secret that is scheduled for deletion.
    pub async fn get(&self, name: &str) -> Result<Option<SecretText>, AwsError> {
        let answer = self.client.get_secret_value().secret_id(name).send().await;
        match answer.map_err(during("secretsmanager:GetSecretValue")) {
            Ok(answer) => Ok(answer.secret_string.map(SecretText::new)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates the secret unless the name is taken.
    ///
    /// # Errors
    /// Secrets Manager's, without its message: a validation error may quote the value.
    pub async fn create(&self, name: &str, text: &SecretText, description: &str) -> Result<Created, AwsError> {
        // The SDK's own copy of the text is out of our hands; it prints it redacted and drops it with the request.
        let created =
            self.client.create_secret().name(name).secret_string(text.expose()).description(description).send().await;
        match created {
            Ok(_) => Ok(Created::Ours),
            Err(error) if error.as_service_error().is_some_and(CreateSecretError::is_resource_exists_exception) => {
                Ok(Created::Taken)
            }
            Err(error) => Err(during("secretsmanager:CreateSecret")(error).without_message()),
        }
    }
}
