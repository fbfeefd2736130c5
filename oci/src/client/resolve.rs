//! Asking our own registry which layers it holds; see [`crate::ext::resolve`].

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::{Client, Error, SMALL_REQUEST, retry};
use crate::ext::resolve::{Request, Response};
use crate::{Endpoint, Repository};

/// The largest answer in bytes: a thousand layers with the longest digests and names, and more.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

impl Client {
    /// Which of these layers the registry holds; `None` where it does not know the question, as
    /// most registries. Safe to repeat, and repeated after passing faults.
    ///
    /// # Errors
    /// The caller may not ask (401, 403), the registry has no time (429), the line or the
    /// registry fails, or the answer makes no sense.
    pub async fn resolve_layers(
        &self,
        repository: &Repository,
        request: &Request,
    ) -> Result<Option<Response>, Error> {
        let endpoint = Endpoint::ResolveLayers {
            repository: repository.clone(),
        };
        let odd = |error: serde_json::Error| self.odd(&endpoint, error.to_string());
        let body = Bytes::from(serde_json::to_vec(request).map_err(odd)?);
        let response = retry::retrying(|| async {
            let request = self
                .request(&endpoint)
                .timeout(SMALL_REQUEST)
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
            self.settled(&endpoint, request).await
        })
        .await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
                return Err(self.refused(&endpoint, response).await);
            }
            status if status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED => {
                return Ok(None);
            }
            _ => return Err(self.refused(&endpoint, response).await),
        }
        let bytes = self
            .bounded(&endpoint.to_string(), response, LONGEST_ANSWER)
            .await?;
        let answer: Response = serde_json::from_slice(&bytes).map_err(odd)?;
        let (asked, answered) = (request.diff_ids.len(), answer.layers.len());
        if asked != answered {
            let text = format!("{answered} layers, where {asked} were asked for");
            return Err(self.odd(&endpoint, text));
        }
        Ok(Some(answer))
    }
}
