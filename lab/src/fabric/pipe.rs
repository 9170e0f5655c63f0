//! Plumbing for connections: dial from a chosen address, pass bytes both ways, or hold a caller in silence.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout};

use super::lock;

/// How long a caller that is not admitted is held before its connection is dropped.
const HELD_FOR: Duration = Duration::from_secs(600);

/// Opens a connection whose source address is `from`.
pub(crate) async fn dial(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(from, 0))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Plays dropped packets: answers nothing until the caller gives up.
///
/// A lab process cannot keep the kernel from completing the TCP handshake, so a caller sees an accepted connection that
/// stays silent where on AWS it would see no connection; both end in the caller's timeout.
pub(crate) async fn hold(mut stream: TcpStream) {
    let mut ignored = [0_u8; 1024];
    let silence = async { while matches!(stream.read(&mut ignored).await, Ok(n) if n > 0) {} };
    drop(timeout(HELD_FOR, silence).await);
}

/// Why a spliced connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both sides were done, or one of them broke off.
    Done,
    /// No byte passed for the idle timeout.
    Idle,
}

/// Passes bytes both ways until both sides are done or nothing has passed for `idle`.
pub(crate) async fn splice(left: &mut TcpStream, right: &mut TcpStream, idle: Option<Duration>) -> Ended {
    let last = Mutex::new(Instant::now());
    let (mut left_read, mut left_write) = left.split();
    let (mut right_read, mut right_write) = right.split();
    let forth = pump(&mut left_read, &mut right_write, &last);
    let back = pump(&mut right_read, &mut left_write, &last);
    let both = async {
        // A broken direction ends the connection; an orderly end of one lets the other finish.
        drop(tokio::try_join!(forth, back));
    };
    tokio::select! {
        () = both => Ended::Done,
        () = silence(&last, idle) => Ended::Idle,
    }
}

async fn pump<R, W>(from: &mut R, to: &mut W, last: &Mutex<Instant>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0_u8; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        *lock(last) = Instant::now();
        to.write_all(&buffer[..read]).await?;
    }
}

async fn silence(last: &Mutex<Instant>, idle: Option<Duration>) {
    let Some(idle) = idle else { return std::future::pending().await };
    loop {
        let until = *lock(last) + idle;
        if Instant::now() >= until {
            return;
        }
        sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = dial([127, 3, 0, 9].into(), listener.local_addr().unwrap()).await.unwrap();
        let (server, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.ip().to_string(), "127.3.0.9");
        (client, server)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_one_side_may_finish_first() {
        let ((mut client, mut left), (mut right, mut server)) = (pair().await, pair().await);
        let spliced = tokio::spawn(async move { splice(&mut left, &mut right, Some(Duration::from_secs(5))).await });
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        heard.clear();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!((heard.as_str(), spliced.await.unwrap()), ("answer", Ended::Done));
    }

    #[tokio::test]
    async fn silence_ends_a_connection_and_talk_keeps_it() {
        let ((mut client, mut left), (mut right, _server)) = (pair().await, pair().await);
        let started = Instant::now();
        let idle = Duration::from_millis(150);
        let spliced = tokio::spawn(async move { splice(&mut left, &mut right, Some(idle)).await });
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(80)).await;
            client.write_all(b"x").await.unwrap();
        }
        assert_eq!(spliced.await.unwrap(), Ended::Idle);
        assert!(started.elapsed() >= Duration::from_millis(320) + idle);
    }
}
