//! The specs: one String parameter per stack under `/espalier-spec/`. Read only; parsing is the domain's.

use aws_config::SdkConfig;
use aws_sdk_ssm::Client;
use espalier_domain::failure::{Failure, Word};
use espalier_domain::id::{StackName, spec_parameter};
use espalier_domain::inventory::Author;
use espalier_domain::record::SpecMark;
use espalier_domain::spec::{self, AllowedDomains, Spec, SpecErrors};
use espalier_domain::token::sha256;
use time::OffsetDateTime;

use crate::error::{AwsError, during};

/// What this module calls.
pub const ACTIONS: &[&str] = &[GET, LIST];

/// What whoever asks for a spec's authors needs.
pub const AUTHORS: &[&str] = &[HISTORY];

const GET: &str = "ssm:GetParameter";
const HISTORY: &str = "ssm:GetParameterHistory";
const LIST: &str = "ssm:GetParametersByPath";
const PATH: &str = "/espalier-spec/";

/// Where specs are read from.
#[derive(Debug, Clone)]
pub struct Specs {
    client: Client,
}

/// A parameter under the specs' path, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name below `/espalier-spec/`; a stack name if whoever wrote it wrote one.
    pub name: String,
    /// The parameter's value.
    pub text: String,
}

/// Why there is no spec to work by.
#[derive(Debug, thiserror::Error)]
pub enum SpecUnusable {
    /// Parameter Store cannot be asked.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// Nobody wrote one.
    #[error("the stack {0} has no spec")]
    Missing(StackName),
    /// It cannot be taken.
    #[error("the spec of {stack} is not acceptable")]
    Invalid {
        /// The stack.
        stack: StackName,
        /// Every mistake.
        #[source]
        source: SpecErrors,
    },
}

impl Failure for SpecUnusable {
    fn word(&self) -> Word {
        match self {
            Self::Aws(error) => error.word(),
            Self::Missing(_) | Self::Invalid { .. } => Word::Refused,
        }
    }
}

impl Specs {
    /// Builds the client.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self { client: Client::new(sdk) }
    }

    /// The text of the stack's spec, or nothing when there is none.
    ///
    /// # Errors
    /// When Parameter Store cannot be asked; a missing parameter is not an error.
    pub async fn get(&self, stack: &StackName) -> Result<Option<String>, AwsError> {
        Ok(self.read(stack).await?.map(|(text, _)| text))
    }

    async fn read(&self, stack: &StackName) -> Result<Option<(String, i64)>, AwsError> {
        let answer = self.client.get_parameter().name(spec_parameter(stack)).send().await.map_err(during(GET));
        match answer {
            Ok(answer) => {
                Ok(answer.parameter.and_then(|parameter| parameter.value.map(|text| (text, parameter.version))))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The stack's spec and which one it is, for whoever can do nothing without one.
    ///
    /// # Errors
    /// When Parameter Store cannot be asked, or there is no spec, or it is not acceptable.
    pub async fn needed(&self, stack: &StackName, allowed: &AllowedDomains) -> Result<(Spec, SpecMark), SpecUnusable> {
        let (text, version) = self.read(stack).await?.ok_or_else(|| SpecUnusable::Missing(stack.clone()))?;
        let mark = SpecMark { version, digest: sha256(&text) };
        let spec = spec::parse(&text, allowed);
        spec.map(|spec| (spec, mark)).map_err(|source| SpecUnusable::Invalid { stack: stack.clone(), source })
    }

    /// Who wrote which version of the stack's spec, as far as Parameter Store remembers: it keeps a hundred of them.
    ///
    /// # Errors
    /// When Parameter Store cannot be asked; a missing parameter has no authors.
    pub async fn authors(&self, stack: &StackName) -> Result<Vec<Author>, AwsError> {
        let mut authors = Vec::new();
        let mut pages = self.client.get_parameter_history().name(spec_parameter(stack)).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = match page.map_err(during(HISTORY)) {
                Ok(page) => page,
                Err(error) if error.is_not_found() => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            for version in page.parameters.unwrap_or_default() {
                let at = version.last_modified_date.and_then(|at| OffsetDateTime::from_unix_timestamp(at.secs()).ok());
                authors.extend(version.last_modified_user.map(|caller| Author {
                    version: version.version,
                    caller,
                    at,
                }));
            }
        }
        Ok(authors)
    }

    /// Every spec there is, sorted by name.
    ///
    /// # Errors
    /// When Parameter Store cannot be asked.
    pub async fn all(&self) -> Result<Vec<Found>, AwsError> {
        let mut found = Vec::new();
        let mut pages = self.client.get_parameters_by_path().path(PATH).recursive(false).into_paginator().send();
        while let Some(page) = pages.next().await {
            for parameter in page.map_err(during(LIST))?.parameters.unwrap_or_default() {
                let (Some(name), Some(text)) = (parameter.name, parameter.value) else {
                    return Err(AwsError::unexpected(LIST, "a parameter without a name or a value"));
                };
                let name = name.strip_prefix(PATH).unwrap_or(&name).to_owned();
                found.push(Found { name, text });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}
