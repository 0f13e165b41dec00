//! Hostile clients on real sockets, with limits short enough to wait for.

use std::sync::atomic::AtomicUsize;

use axum::body::Bytes;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;

const SHORT: Limits =
    Limits { most: 8, head: Duration::from_millis(200), unread: Duration::from_millis(200) };

/// Chosen: no busy machine takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server whose `/` greets, whose `/endless` never ends, and which counts the streams that are open.
async fn start(limits: Limits) -> (std::net::SocketAddr, Arc<AtomicUsize>, oneshot::Sender<()>) {
    let open = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&open);
    let endless = move || {
        let open = Open::new(&count);
        let bytes = futures_util::stream::unfold(open, |open| async {
            Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 4096])), open))
        });
        std::future::ready(Body::from_stream(bytes))
    };
    let router =
        Router::new().route("/", get(|| async { "hello" })).route("/endless", get(endless));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    drop(tokio::spawn(async move {
        serve(listener, router, limits, async {
            let _ = stopped.await;
        })
        .await;
    }));
    (address, open, stop)
}

/// Counts itself while it exists.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await });
    done.expect("everything is over within the test's patience");
}

async fn send(address: std::net::SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Reads to the end; a reset counts as one.
async fn rest(mut stream: TcpStream) -> String {
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read).await;
    String::from_utf8_lossy(&read).into_owned()
}

async fn ask(address: std::net::SocketAddr) -> String {
    rest(send(address, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await)
        .await
}

#[test]
fn a_head_that_never_ends_is_not_waited_for() {
    run(async {
        let (address, _, _stop) = start(SHORT).await;
        // Not one byte, half a head, one more line every now and then.
        assert_eq!(rest(send(address, "").await).await, "");
        let answer = rest(send(address, "GET / HTTP/1.1\r\nHost: localhost\r\n").await).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        let mut slow = send(address, "GET / HTTP/1.1\r\n").await;
        let mut lines = 0;
        while slow.write_all(b"X-Slow: 1\r\n").await.is_ok() {
            lines += 1;
            tokio::time::sleep(SHORT.head / 8).await;
        }
        assert!(lines >= 2, "it was slow, not refused: {lines}");
        assert!(ask(address).await.contains("hello"));
    });
}

#[test]
fn an_idle_connection_is_kept_for_a_while_only() {
    run(async {
        let (address, _, _stop) = start(SHORT).await;
        let kept = send(address, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        // It ends without a request from us.
        assert!(rest(kept).await.ends_with("hello"));
    });
}

#[test]
fn a_head_that_is_too_long_or_no_head_is_refused() {
    run(async {
        let (address, _, _stop) = start(SHORT).await;
        let long =
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
        let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: 1\r\n".repeat(100));
        for text in [long, many] {
            let answer = rest(send(address, &text).await).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
        }
        // What follows a good request on its connection is judged on its own.
        let two = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n\x16\x03rubbish\r\n\r\n";
        let answer = rest(send(address, two).await).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("hello"), "{answer}");
        assert!(answer.contains("HTTP/1.1 400 "), "{answer}");
        assert_eq!(answer.matches("hello").count(), 1, "{answer}");
    });
}

#[test]
fn a_reader_that_never_reads_does_not_keep_its_stream() {
    run(async {
        let (address, open, _stop) = start(SHORT).await;
        let silent = send(address, "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        while open.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        while open.load(Ordering::SeqCst) == 1 {
            tokio::time::sleep(SHORT.unread / 8).await;
        }
        drop(silent);
    });
}

#[test]
fn idle_connections_make_room_and_busy_ones_do_not() {
    run(async {
        let limits = Limits { head: PATIENCE, unread: PATIENCE, ..SHORT };
        let (address, open, stop) = start(limits).await;
        let mut idle = Vec::new();
        for _ in 0..3 * limits.most {
            idle.push(send(address, "").await);
        }
        assert!(ask(address).await.contains("hello"), "the idlest has made room");
        let mut busy = Vec::new();
        for _ in 0..limits.most {
            let mut stream =
                send(address, "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            stream.read_exact(&mut [0; 64]).await.unwrap();
            busy.push(stream);
        }
        assert_eq!(open.load(Ordering::SeqCst), limits.most);
        let refused = rest(TcpStream::connect(address).await.unwrap()).await;
        assert!(
            refused.starts_with("HTTP/1.1 503 ") && refused.contains("Retry-After"),
            "{refused}"
        );
        drop(busy);
        while open.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
        assert!(ask(address).await.contains("hello"));
        // Asked to stop, it does not wait for idle clients.
        drop(stop);
        for stream in idle {
            rest(stream).await;
        }
    });
}

/// A server whose `/slow` answers after a while, and which counts the requests that it works on.
async fn start_slow() -> (std::net::SocketAddr, Arc<AtomicUsize>, oneshot::Sender<()>) {
    let open = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&open);
    let slow = move |body: Bytes| {
        let open = Open::new(&count);
        async move {
            tokio::time::sleep(Duration::from_millis(if body.is_empty() { 500 } else { 5000 }))
                .await;
            drop(open);
            "done"
        }
    };
    let router = Router::new().route("/slow", get(slow.clone()).post(slow));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    drop(tokio::spawn(async move {
        serve(listener, router, SHORT, async {
            let _ = stopped.await;
        })
        .await;
    }));
    (address, open, stop)
}

#[test]
fn who_closes_its_half_is_answered() {
    run(async {
        let (address, _, _stop) = start_slow().await;
        let mut stream = send(address, "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        stream.shutdown().await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.ends_with("\r\n\r\ndone"), "{answer}");
        assert!(answer.contains("HTTP/1.1 200 OK"), "{answer}");
    });
}

#[test]
fn nobody_is_worked_for_who_is_gone() {
    run(async {
        let (address, open, _stop) = start_slow().await;
        let post = "POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
        let stream = send(address, post).await;
        until(|| open.load(Ordering::SeqCst) == 1).await;
        drop(stream);
        let soon = Duration::from_secs(3);
        let found = tokio::time::timeout(soon, until(|| open.load(Ordering::SeqCst) == 0)).await;
        found.expect("it is found before its answer is sent");
        // Nor for a client that is gone before its request has arrived.
        let half = "POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx";
        let mut stream = send(address, half).await;
        stream.shutdown().await.unwrap();
        assert!(!rest(stream).await.contains("200 OK"));
    });
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
