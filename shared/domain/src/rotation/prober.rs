//! The probers beside the control plane's own (`prober.yaml`): what it means that the one a spec names cannot be called.

use crate::plan::{Block, BlockCode};

/// What a person has to do where a call of this function, a prober, failed before it began. Anything else that fails may go
/// well when it is tried again.
pub fn uncalled(function: &str, error: &str, cause: &str) -> Option<Block> {
    let because = if error == "Lambda.ResourceNotFoundException" {
        format!(
            "the prober {function} does not exist, so nothing can be proven; deploy prober.yaml under that name in the control \
             plane's account and Region, or correct prober.name in the spec"
        )
    } else if error.starts_with("Lambda.") && (error.contains(DENIED) || cause.contains(DENIED)) {
        format!(
            "the state machine may not call the prober {function}, so nothing can be proven; what denies \
             lambda:InvokeFunction on it is none of Espalier's policies: a permissions boundary or a service control policy"
        )
    } else {
        return None;
    };
    Some(Block { code: BlockCode::Unverifiable, because })
}

/// What Lambda calls it. Step Functions tells it as `Lambda.AWSLambdaException`, with Lambda's own word in the cause.
const DENIED: &str = "AccessDeniedException";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_there_and_who_may_not_be_called_are_told_by_name() {
        let gone = uncalled("espalier-prober-east", "Lambda.ResourceNotFoundException", "Function not found").unwrap();
        assert_eq!(gone.code, BlockCode::Unverifiable);
        assert!(gone.because.contains("espalier-prober-east does not exist"), "{gone}");
        let cause =
            "is not authorized to perform: lambda:InvokeFunction (Status Code: 403; Error Code: AccessDeniedException)";
        for (error, cause) in [("Lambda.AWSLambdaException", cause), ("Lambda.AccessDeniedException", "")] {
            let denied = uncalled("espalier-prober-east", error, cause).unwrap();
            assert!(denied.because.contains("may not call the prober espalier-prober-east"), "{denied}");
        }
    }

    #[test]
    fn what_failed_by_itself_is_tried_again() {
        for (error, cause) in [
            ("Busy", ""),
            ("Lambda.Unknown", "timed out"),
            ("Lambda.AWSLambdaException", "internal error"),
            // The function's own words are no word of Lambda's.
            ("Broken", "AccessDeniedException"),
        ] {
            assert_eq!(uncalled("espalier-prober-east", error, cause), None, "{error}");
        }
    }
}
