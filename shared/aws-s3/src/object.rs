//! A copy of the trust bundle, in a bucket of the operator's: for clients that read no parameters.

use std::fmt;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use espalier_aws::error::{AwsError, during};

use crate::{GET, PUT, bytes_of};

/// What this module calls.
pub const ACTIONS: &[&str] = &[GET, PUT];

/// An object by its bucket and key: `bucket/key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    bucket: String,
    key: String,
}

/// What is no name of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no object: write the bucket's name, a slash and a key of letters, digits and . _ / -")]
pub struct NotAnObject(String);

impl ObjectName {
    /// Reads `bucket/key`. A bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens (Amazon S3 user guide, bucket
    /// naming rules); of the characters that a key may have, those that mean nothing in an ARN.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, NotAnObject> {
        let of_bucket = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
        let of_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'-');
        match text.split_once('/') {
            Some((bucket, key))
                if (3..=63).contains(&bucket.len())
                    && bucket.bytes().all(of_bucket)
                    && (1..=512).contains(&key.len())
                    && key.bytes().all(of_key) =>
            {
                Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            Some(_) | None => Err(NotAnObject(text.to_owned())),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.bucket, self.key)
    }
}

/// One object that is text. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Object {
    client: Client,
    name: ObjectName,
}

impl Object {
    /// The object of this name.
    pub fn new(sdk: &SdkConfig, name: ObjectName) -> Self {
        Self { client: Client::new(sdk), name }
    }

    /// Whether it holds just this. There may be none, or anything whatever of anybody's, which is not read for longer than this.
    ///
    /// # Errors
    /// S3's.
    pub async fn holds(&self, text: &str) -> Result<bool, AwsError> {
        let get = self.client.get_object().bucket(&self.name.bucket).key(&self.name.key);
        match get.send().await.map_err(during(GET)) {
            Ok(object) if object.content_length() != i64::try_from(text.len()).ok() => Ok(false),
            Ok(object) => Ok(bytes_of(object.body).await? == text.as_bytes()),
            // Whoever may not list a bucket is not told that there is no such object (GetObject, permissions).
            Err(error) if matches!(error.code(), "NoSuchKey" | "AccessDenied") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts this there, whatever was there before.
    ///
    /// # Errors
    /// S3's.
    pub async fn write(&self, text: &str) -> Result<(), AwsError> {
        let put = self.client.put_object().bucket(&self.name.bucket).key(&self.name.key);
        // What clients fetch through a cache is to be as young as what the others read.
        let put = put.content_type("application/x-pem-file").cache_control("max-age=300");
        put.body(ByteStream::from(text.as_bytes().to_vec())).send().await.map_err(during(PUT))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_a_bucket_and_a_key_that_mean_nothing_else_in_an_arn() {
        let named = ObjectName::parse("acme-clients/pki/espalier.pem").unwrap();
        assert_eq!((named.bucket.as_str(), named.key.as_str()), ("acme-clients", "pki/espalier.pem"));
        assert_eq!(named.to_string(), "acme-clients/pki/espalier.pem");
        for wrong in [
            "",
            "bucket",
            "bucket/",
            "/key",
            "ab/key",
            "Bucket/key",
            "bucket/*",
            "bucket/a b",
            "bucket/${x}",
            "s3://b/k",
        ] {
            let error = ObjectName::parse(wrong).unwrap_err();
            assert!(error.to_string().contains("write the bucket's name"), "{wrong}: {error}");
        }
    }
}
