//! A response body that is made chunk by chunk by an async function, only as fast as it is read.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;

/// Makes chunks; `None` is the end.
pub(super) trait Chunks: Send + 'static {
    fn next_chunk(&mut self) -> impl Future<Output = Option<Vec<u8>>> + Send;
}

type Step<C> = Pin<Box<dyn Future<Output = (C, Option<Vec<u8>>)> + Send>>;

/// The body. A new chunk is begun when the previous one was handed over, so a reader that stalls
/// stalls the maker, and nothing piles up here.
pub(super) struct ChunkBody<C> {
    step: Option<Step<C>>,
}

impl<C: Chunks> ChunkBody<C> {
    pub(super) fn new(chunks: C) -> Self {
        Self { step: Some(step(chunks)) }
    }
}

fn step<C: Chunks>(mut chunks: C) -> Step<C> {
    Box::pin(async move {
        let chunk = chunks.next_chunk().await;
        (chunks, chunk)
    })
}

impl<C: Chunks> HttpBody for ChunkBody<C> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(current) = &mut self.step else { return Poll::Ready(None) };
        let (chunks, chunk) = ready!(current.as_mut().poll(context));
        self.step = chunk.is_some().then(|| step(chunks));
        Poll::Ready(chunk.map(|bytes| Ok(Frame::data(bytes.into()))))
    }
}
