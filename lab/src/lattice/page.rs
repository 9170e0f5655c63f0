//! Pagination of lists.

use serde::Deserialize;
use serde_json::{Value, json};

use super::rules::{Fault, Rule};
use super::{Options, input};

/// The members of every list request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Paging {
    max_results: Option<usize>,
    next_token: Option<String>,
}

/// One page of a list.
pub(super) struct Page {
    items: Vec<Value>,
    next: Option<String>,
}

impl Page {
    pub(super) fn answer(self) -> Value {
        match self.next {
            Some(next) => json!({"items": self.items, "nextToken": next}),
            None => json!({"items": self.items}),
        }
    }
}

/// Cuts the page that the request asks for out of a list. The token is opaque to callers: it is the offset in clothes.
pub(super) fn page(options: &Options, request: &Value, items: impl Iterator<Item = Value>) -> Result<Page, Fault> {
    let paging: Paging = input(request)?;
    let from = match &paging.next_token {
        None => 0,
        Some(token) => {
            let offset = token.strip_prefix("page-").and_then(|hex| usize::from_str_radix(hex, 16).ok());
            offset.ok_or_else(|| Fault::field(Rule::PageToken, "nextToken", token))?
        }
    };
    let size = paging.max_results.unwrap_or(options.page_size).max(1);
    let mut items = items.skip(from);
    let kept: Vec<Value> = items.by_ref().take(size).collect();
    let next = items.next().map(|_| format!("page-{:08x}", from + size));
    Ok(Page { items: kept, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_the_list_once_and_a_made_up_token_is_refused() {
        let options = Options { page_size: 2, ..Options::default() };
        let list = || (0..5).map(Value::from);
        let (mut seen, mut request) = (Vec::new(), json!({}));
        loop {
            let answer = page(&options, &request, list()).unwrap().answer();
            seen.extend(answer["items"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()));
            let Some(next) = answer.get("nextToken") else { break };
            request = json!({"nextToken": next});
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        let whole = page(&options, &json!({"maxResults": 5}), list()).unwrap().answer();
        assert!(whole.get("nextToken").is_none());
        let refused = page(&options, &json!({"nextToken": "2"}), list()).err().unwrap();
        assert_eq!(refused.rule, Rule::PageToken);
    }
}
