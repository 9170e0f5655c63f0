//! Where clients find the bundle: a parameter, and where it is wanted a copy of it as an object in S3.

use espalier_aws::error::AwsError;
use espalier_aws::parameters::Parameters;
use espalier_aws_s3::object::Object;

/// Both places.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) parameters: Parameters,
    pub(crate) copy: Option<Object>,
}

impl Published {
    /// The bundle that clients find, whichever place they look at; absent while they do not all find the same.
    pub(crate) async fn bundle(&self) -> Result<Option<String>, AwsError> {
        let bundle = self.parameters.bundle().await?;
        let (Some(wanted), Some(copy)) = (&bundle, &self.copy) else { return Ok(bundle) };
        let is_same = copy.holds(wanted).await?;
        Ok(bundle.filter(|_| is_same))
    }

    /// Puts a bundle where clients look.
    pub(crate) async fn publish(&self, bundle: &str) -> Result<(), AwsError> {
        self.parameters.publish_bundle(bundle).await?;
        match &self.copy {
            Some(copy) => copy.write(bundle).await,
            None => Ok(()),
        }
    }
}
