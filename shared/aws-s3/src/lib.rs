//! The bucket with the evidence: segments of the inventory, each written once and never again; and in [`object`] the copy of the
//! trust bundle for clients.
//!
//! A crate of its own, as `espalier-aws-ec2` is: only `seal` and `authority` pay for the SDK. A segment is put on the condition that there is
//! none of its name, which is what gives each number of a chain to one segment; what keeps it there is the bucket's business
//! (Object Lock, and a policy that takes no unconditional write).

pub mod object;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use espalier_aws::error::{AwsError, during};
use espalier_domain::failure::{Failure, Word};
use espalier_domain::inventory::{Chain, Damage, Place, Segment};

const GET: &str = "s3:GetObject";
const LIST: &str = "s3:ListBucket";
const PUT: &str = "s3:PutObject";

/// What this crate calls.
pub const ACTIONS: &[&str] = &[GET, LIST, PUT];

/// The bucket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    name: String,
}

/// Why a segment could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// S3 refused or did not answer.
    #[error("the evidence is not available")]
    Aws(#[from] AwsError),
    /// What is there is no segment that could be built upon.
    #[error("the evidence is damaged; nothing is added to it before a person has looked (docs/evidence.md)")]
    Damaged(#[from] Damage),
}

impl Failure for BucketError {
    fn word(&self) -> Word {
        match self {
            Self::Aws(error) => error.word(),
            Self::Damaged(_) => Word::Broken,
        }
    }

    fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Aws(error) => error.retry_after_s(),
            Self::Damaged(_) => None,
        }
    }
}

/// Whose segment is under the name now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Ours.
    Ours,
    /// One that somebody else has put there first.
    Taken,
}

impl Bucket {
    /// The bucket of this name.
    pub fn new(sdk: &SdkConfig, name: impl Into<String>) -> Self {
        Self { client: Client::new(sdk), name: name.into() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The newest segment of a chain; absent while there is none.
    ///
    /// # Errors
    /// S3's, or that what is there is no segment.
    pub async fn newest(&self, chain: &Chain) -> Result<Option<Segment>, BucketError> {
        let mut newest: Option<Place> = None;
        let mut pages =
            self.client.list_objects_v2().bucket(&self.name).prefix(Place::prefix(chain)).into_paginator().send();
        while let Some(page) = pages.next().await {
            for object in page.map_err(during(LIST))?.contents() {
                let place = object.key().and_then(Place::parse).filter(|place| place.chain == *chain);
                newest = newest.max(place);
            }
        }
        let Some(place) = newest else { return Ok(None) };
        let text = self.read(&place).await?;
        Ok(Some(Segment::parse(&place, &text)?))
    }

    /// Puts a segment where there is none.
    ///
    /// # Errors
    /// S3's.
    pub async fn put(&self, place: &Place, text: &str) -> Result<Kept, BucketError> {
        let put = self.client.put_object().bucket(&self.name).key(place.name()).if_none_match("*");
        let put = put.content_type("application/x-ndjson").body(ByteStream::from(text.as_bytes().to_vec()));
        match put.send().await.map_err(during(PUT)) {
            Ok(_) => Ok(Kept::Ours),
            // It may be the repetition of our own call, whose answer got lost.
            Err(error) if error.code() == "PreconditionFailed" => {
                Ok(if self.read(place).await? == text { Kept::Ours } else { Kept::Taken })
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn read(&self, place: &Place) -> Result<String, AwsError> {
        let object = self.client.get_object().bucket(&self.name).key(place.name()).send().await.map_err(during(GET))?;
        let bytes = bytes_of(object.body).await?;
        String::from_utf8(bytes).map_err(|error| unreadable(&error))
    }
}

/// What was read, which may be cut off on its way.
async fn bytes_of(body: ByteStream) -> Result<Vec<u8>, AwsError> {
    Ok(body.collect().await.map_err(|error| unreadable(&error))?.to_vec())
}

fn unreadable(error: &dyn std::error::Error) -> AwsError {
    AwsError::unexpected(GET, error.to_string())
}
