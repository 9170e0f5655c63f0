//! The query protocol's answers.

const NAMESPACE: &str = "http://autoscaling.amazonaws.com/doc/2011-01-01/";

pub(super) fn wrap(name: &str, inside: &str) -> String {
    format!("<{name}>{inside}</{name}>")
}

pub(super) fn member(inside: &str) -> String {
    wrap("member", inside)
}

/// An element with a text.
pub(super) fn element(name: &str, text: &str) -> String {
    wrap(name, &text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
}

pub(super) fn answer(action: &str, inside: &str) -> String {
    let result = wrap(&format!("{action}Result"), inside);
    let metadata = wrap("ResponseMetadata", &element("RequestId", "00000000-0000-4000-8000-000000000000"));
    format!("<{action}Response xmlns=\"{NAMESPACE}\">{result}{metadata}</{action}Response>")
}

pub(super) fn refusal(code: &str, message: &str) -> String {
    let error = element("Type", "Sender") + &element("Code", code) + &element("Message", message);
    format!("<ErrorResponse xmlns=\"{NAMESPACE}\">{}</ErrorResponse>", wrap("Error", &error))
}
