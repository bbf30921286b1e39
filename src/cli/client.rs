//! Talks to an agent's admin interface.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body, RequestBuilder};

use super::exit::{AGENT, CONFIG, Failure, UNREACHABLE};
use super::output::{self, Format};
use crate::config::{Secret, read_secret};
use crate::http::types::{ErrorBody, SCHEMA};
use crate::http::{KEEPALIVE_EVERY, Token};

/// An answer larger than this is not an agent's. A status with 1,000 streams has 200 KB.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A watch stream that misses so many signs of life is dead.
const KEEPALIVES_MISSED_MAX: u32 = 3;

/// What every client takes.
#[derive(Clone, Debug, Args)]
pub(super) struct ClientArgs {
    /// The agent's admin interface
    #[arg(
        long,
        env = "WEFT_AGENT",
        value_name = "URL",
        default_value = "http://127.0.0.1:7980",
        value_parser = base_url,
        help_heading = "Agent"
    )]
    agent: String,
    /// File with the token that the agent asks for; WEFT_HTTP_TOKEN can hold the token itself
    #[arg(long, env = "WEFT_HTTP_TOKEN_FILE", value_name = "FILE", help_heading = "Agent")]
    token_file: Option<PathBuf>,
    /// How to show the answer
    #[arg(
        short,
        long,
        env = "WEFT_OUTPUT",
        value_name = "FORMAT",
        default_value = "table",
        help_heading = "Agent"
    )]
    pub(super) output: Format,
}

/// The usual `--timeout` of a client that asks once.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct TimeoutArgs {
    /// How long to wait for the answer
    #[arg(
        long,
        env = "WEFT_TIMEOUT",
        value_name = "DURATION",
        default_value = "5s",
        value_parser = super::duration::parse,
        help_heading = "Agent"
    )]
    pub(super) timeout: Duration,
}

/// What an agent that asks for a token says to who has none, or another.
const UNAUTHORIZED: u16 = 401;

/// `http://HOST:PORT`, with or without the beginning.
fn base_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', '?', '#', '@', ' ']) {
        return Err("write http://HOST:PORT".to_owned());
    }
    Ok(format!("http://{rest}"))
}

/// An agent's answer: the status code, and JSON of our schema.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) document: Value,
}

impl Answer {
    /// The document as one of our types.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_value(self.document.clone())
            .map_err(|error| Failure::new(AGENT, format!("the agent's answer is odd: {error}")))
    }

    /// Prints the document as it came, or as `table` makes it.
    pub(super) fn print<T: DeserializeOwned>(
        &self,
        format: Format,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = match format {
            Format::Json => format!("{}\n", self.document),
            Format::Table => table(&self.read()?),
        };
        output::put(&text).map(|_| ())
    }
}

/// A connection to one agent.
pub(super) struct Client {
    http: Agent,
    base: String,
    token: Option<Token>,
}

impl Client {
    /// For questions with an answer within `timeout`.
    pub(super) fn new(args: &ClientArgs, timeout: Duration) -> Result<Self, Failure> {
        let config = config().timeout_global(Some(timeout)).build();
        Self::with(args, config)
    }

    /// For a stream without an end: it has to begin within `timeout`, and to show signs of life.
    pub(super) fn streaming(args: &ClientArgs, timeout: Duration) -> Result<Self, Failure> {
        let config = config()
            .timeout_connect(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .timeout_per_read(Some(KEEPALIVE_EVERY * KEEPALIVES_MISSED_MAX))
            .build();
        Self::with(args, config)
    }

    fn with(args: &ClientArgs, config: ureq::config::Config) -> Result<Self, Failure> {
        let token = token(args).map_err(|problem| Failure::new(CONFIG, problem))?;
        Ok(Self { http: config.new_agent(), base: args.agent.clone(), token })
    }

    fn authorised<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {}", token.text())),
            None => request,
        }
    }

    /// Asks; an answer that isn't a success is a failure.
    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        accepted(self.get_any(path)?)
    }

    /// Asks; an answer that isn't a success is an answer too.
    pub(super) fn get_any(&self, path: &str) -> Result<Answer, Failure> {
        let sent = self.authorised(self.http.get(format!("{}{path}", self.base))).call();
        self.answer(sent)
    }

    pub(super) fn post(&self, path: &str, body: &impl Serialize) -> Result<Answer, Failure> {
        let bytes = serde_json::to_vec(body).expect("invariant: our own types serialise");
        let sent = self
            .authorised(self.http.post(format!("{}{path}", self.base)))
            .header("content-type", "application/json")
            .send(&bytes);
        accepted(self.answer(sent)?)
    }

    /// Opens a stream; the body is the caller's to read.
    pub(super) fn stream(&self, path: &str, query: &[(&str, String)]) -> Result<Body, Failure> {
        let mut request = self.authorised(self.http.get(format!("{}{path}", self.base)));
        for (name, value) in query {
            request = request.query(*name, value);
        }
        let response = request.call().map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        accepted(self.answer(Ok(response))?)?;
        unreachable!("a refusal is a failure")
    }

    fn answer(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<Answer, Failure> {
        let mut response = sent.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let bytes = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .map_err(|error| self.unreachable(&error))?;
        let document = serde_json::from_slice(&bytes).map_err(|_| {
            let message =
                format!("{} answers with {status} and no JSON: is it an agent?", self.base);
            Failure::new(AGENT, message)
        })?;
        Ok(Answer { status, document })
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let problem = match error {
            ureq::Error::Timeout(_) => "nothing came in time (--timeout)".to_owned(),
            error => error.to_string(),
        };
        Failure::new(UNREACHABLE, format!("no agent answers at {}: {problem}", self.base))
    }
}

/// The token from the file, or from the environment.
fn token(args: &ClientArgs) -> Result<Option<Token>, String> {
    let file = args.token_file.as_ref().filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = file {
        let secret = read_secret(path).and_then(|secret| Token::new(secret.text()));
        return secret.map(Some).map_err(|problem| format!("{}: {problem}", path.display()));
    }
    match std::env::var("WEFT_HTTP_TOKEN").map(|text| Secret::new(&text)) {
        Ok(secret) if !secret.text().trim().is_empty() => {
            let problem = |problem| format!("WEFT_HTTP_TOKEN: {problem}");
            Token::new(secret.text()).map(Some).map_err(problem)
        }
        _ => Ok(None),
    }
}

fn config() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    // The agent is here or near: a proxy for the web has no part in it.
    Agent::config_builder().http_status_as_error(false).proxy(None).max_redirects(0)
}

fn accepted(answer: Answer) -> Result<Answer, Failure> {
    let Answer { status, document } = &answer;
    if !(200..300).contains(status) {
        let reason = answer.read::<ErrorBody>().map_or_else(|_| document.to_string(), |e| e.error);
        let hint = if *status == UNAUTHORIZED { "; give --token-file" } else { "" };
        return Err(Failure::new(AGENT, format!("the agent refuses ({status}): {reason}{hint}")));
    }
    match document.get("schema").and_then(Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => Ok(answer),
        schema => {
            let found = schema.map_or_else(|| "none".to_owned(), |schema| schema.to_string());
            let message = format!(
                "the agent's answer has schema {found}, this program reads {SCHEMA}: \
                 use versions that fit"
            );
            Err(Failure::new(AGENT, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!(base_url("http://127.0.0.1:1/"), Ok("http://127.0.0.1:1".into()));
        assert_eq!(base_url("[::1]:7980"), Ok("http://[::1]:7980".into()));
        for bad in ["", "http://", "https://127.0.0.1", "http://a/b", "http://u@a"] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn foreign_schemas_are_refused_in_words() {
        let answer = |status, text| {
            let document = serde_json::from_str(text).expect("JSON");
            accepted(Answer { status, document }).map(|_| ()).map_err(|f| (f.code, f.message))
        };
        assert_eq!(answer(200, "{\"schema\":1}"), Ok(()));
        let (code, message) = answer(200, "{\"schema\":2}").expect_err("refused");
        assert_eq!(code, AGENT);
        assert!(message.contains("schema 2, this program reads 1"), "{message}");
        let (_, message) = answer(503, "{\"error\":\"queue full\"}").expect_err("refused");
        assert_eq!(message, "the agent refuses (503): queue full");
        let (_, message) = answer(401, "{\"error\":\"no token\"}").expect_err("refused");
        assert_eq!(message, "the agent refuses (401): no token; give --token-file");
    }
}
