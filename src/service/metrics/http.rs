//! A minimal HTTP/1.1 server for scrapers: GET only, one request per connection. Connections are served
//! concurrently, so that a silent one does not delay others.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::CONTENT_TYPE;

/// Longest request, bytes.
const MAX_BYTES: usize = 8192;
/// Time limit of a connection, for sending the request and reading the answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of connections. A further one replaces the oldest.
const MAX_CONNECTIONS: usize = 32;

/// Answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Status 200, with a page.
    Page(String),
    /// Status 503, with a reason.
    Unavailable(String),
    /// Status 404.
    NotFound,
}

/// A listener and its thread. Dropping it ends both.
pub struct Server {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server that answers GET requests by calling `answer` with the path.
    ///
    /// # Errors
    /// If the address can't be listened on.
    pub fn start(
        address: SocketAddr,
        answer: impl Fn(&str) -> Answer + Send + 'static,
    ) -> Result<Server, String> {
        Self::with_timeout(address, TIMEOUT, answer)
    }

    fn with_timeout(
        address: SocketAddr,
        timeout: Duration,
        answer: impl Fn(&str) -> Answer + Send + 'static,
    ) -> Result<Server, String> {
        let failed = |error: io::Error| format!("metrics.listen {address}: {error}");
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let accepting = listener.try_clone().map_err(failed)?;
        let thread = std::thread::Builder::new().name("metrics".into());
        let thread = thread.spawn(move || serve(&accepting, timeout, &answer)).map_err(failed)?;
        Ok(Server { listener, thread: Some(thread) })
    }

    /// The listening address.
    ///
    /// # Errors
    /// If the system call fails.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves until the listener is shut down.
fn serve(listener: &TcpListener, timeout: Duration, answer: &dyn Fn(&str) -> Answer) {
    // In the order of acceptance.
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let ready = match wait(listener, &connections) {
            Ok(ready) => ready,
            Err(error) => {
                log::warn!("metrics: poll: {error}");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let now = Instant::now();
        let mut at = 0;
        connections.retain_mut(|connection| {
            let is_ready = ready.get(at).copied().unwrap_or(false);
            at += 1;
            // Errors of a connection concern its scraper alone.
            now < connection.end && (!is_ready || connection.advance(answer).unwrap_or(false))
        });
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_err() {
                        continue;
                    }
                    if connections.len() == MAX_CONNECTIONS {
                        connections.remove(0);
                    }
                    let mut connection = Connection::new(stream, now + timeout);
                    // The request may have arrived already, and then the connection doesn't count as
                    // waiting.
                    if connection.advance(answer).unwrap_or(false) {
                        connections.push(connection);
                    }
                }
                // The listener was shut down: the daemon is ending.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    log::warn!("metrics: accept: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                    break;
                }
            }
        }
    }
}

/// Waits for a new connection, progress of a connection, or a time limit. Returns which connections are ready.
fn wait(listener: &TcpListener, connections: &[Connection]) -> io::Result<Vec<bool>> {
    let mut fds = vec![PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
    fds.extend(connections.iter().map(|connection| {
        let wants = if connection.is_answering() { PollFlags::OUT } else { PollFlags::IN };
        PollFd::from_borrowed_fd(connection.stream.as_fd(), wants)
    }));
    let first = connections.iter().map(|connection| connection.end).min();
    let left = first.map(|end| end.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
    let left =
        left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
    match poll(&mut fds, left.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// A connection with the part of the request received so far, or the part of the answer not sent yet.
struct Connection {
    stream: TcpStream,
    /// End of the connection's time, even if it trickles.
    end: Instant,
    request: Vec<u8>,
    answer: Option<Vec<u8>>,
}

impl Connection {
    fn new(stream: TcpStream, end: Instant) -> Connection {
        Connection { stream, end, request: Vec::new(), answer: None }
    }

    fn is_answering(&self) -> bool {
        self.answer.is_some()
    }

    /// Advances as far as possible without waiting. True if there is more to do.
    fn advance(&mut self, answer: &dyn Fn(&str) -> Answer) -> io::Result<bool> {
        if self.answer.is_none() {
            match self.read()? {
                Request::Partial => return Ok(true),
                Request::Whole(line) => self.answer = Some(respond(reply(&line, answer))),
                Request::TooLong => {
                    let reason = ("431 Request Header Fields Too Large", "request is too long\n".into());
                    self.answer = Some(respond(reason));
                }
            }
        }
        let Some(left) = &mut self.answer else { return Ok(false) };
        while !left.is_empty() {
            match self.stream.write(left) {
                Ok(written) => drop(left.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.stream.shutdown(Shutdown::Write)?;
        Ok(false)
    }

    fn read(&mut self) -> io::Result<Request> {
        let mut buffer = [0; MAX_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => self.request.extend(&buffer[..more]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Request::Partial),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if self.request.windows(4).any(|window| window == b"\r\n\r\n") {
                let line = self.request.split(|byte| *byte == b'\r').next().unwrap_or_default();
                return Ok(Request::Whole(String::from_utf8_lossy(line).into_owned()));
            }
            if self.request.len() >= MAX_BYTES {
                return Ok(Request::TooLong);
            }
        }
    }
}

/// State of a request.
enum Request {
    Partial,
    /// A complete request, given by its first line.
    Whole(String),
    TooLong,
}

fn respond((status, body): (&'static str, String)) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

fn reply(line: &str, answer: &dyn Fn(&str) -> Answer) -> (&'static str, String) {
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["GET", path, version] if version.starts_with("HTTP/1.") => {
            match answer(path.split('?').next().unwrap_or(path)) {
                Answer::Page(page) => ("200 OK", page),
                Answer::Unavailable(why) => ("503 Service Unavailable", why + "\n"),
                Answer::NotFound => ("404 Not Found", "there are /metrics and /healthz\n".into()),
            }
        }
        [_, _, version] if version.starts_with("HTTP/1.") => {
            ("405 Method Not Allowed", "expected GET\n".into())
        }
        _ => ("400 Bad Request", "expected GET PATH HTTP/1.1\n".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        // Long enough for any busy machine.
        with_timeout(Duration::from_secs(600))
    }

    fn with_timeout(timeout: Duration) -> Server {
        let answer = |path: &str| match path {
            "/metrics" => Answer::Page("pi0rt_up 1\n".into()),
            "/healthz" => Answer::Unavailable("it hangs".into()),
            _ => Answer::NotFound,
        };
        Server::with_timeout("127.0.0.1:0".parse().unwrap(), timeout, answer).unwrap()
    }

    fn say(server: &Server, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(server.address().unwrap()).unwrap();
        let _ = stream.write_all(request);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn a_scraper_gets_the_page_and_everybody_else_is_told_what_is_wrong() {
        let server = server();
        let page = say(&server, b"GET /metrics?x=1 HTTP/1.1\r\nHost: robot\r\n\r\n");
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
        assert!(head.contains("Content-Length: 11\r\n"), "{head}");
        assert_eq!(body, "pi0rt_up 1\n");
        for (request, status) in [
            (&b"GET /healthz HTTP/1.0\r\n\r\n"[..], "503 Service Unavailable"),
            (b"GET /etc/passwd HTTP/1.1\r\n\r\n", "404 Not Found"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            (b"\x16\x03\x01\r\n\r\n", "400 Bad Request"),
            (b"GET /metrics\r\n\r\n", "400 Bad Request"),
            (&[b'x'; MAX_BYTES], "431 Request Header Fields Too Large"),
        ] {
            let answer = say(&server, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        }
    }

    /// The answer comes while all of them are still connected.
    #[test]
    fn who_says_nothing_keeps_nobody_waiting() {
        let server = server();
        let address = server.address().unwrap();
        let silent: Vec<_> = (0..15).map(|_| TcpStream::connect(address).unwrap()).collect();
        // These have sent requests and never read.
        let deaf: Vec<_> = (0..5)
            .map(|_| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
                stream
            })
            .collect();
        assert!(say(&server, b"GET /metrics HTTP/1.1\r\n\r\n").contains("200 OK"));
        for mut stream in silent {
            // No answer has come, and the connection has not been closed.
            stream.set_nonblocking(true).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        drop(deaf);
    }

    /// A connection is kept while others come and go.
    #[test]
    fn the_rest_of_a_request_may_come_after_another_one() {
        let server = server();
        let mut slow = TcpStream::connect(server.address().unwrap()).unwrap();
        slow.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
        assert!(say(&server, b"GET /metrics HTTP/1.1\r\n\r\n").contains("200 OK"));
        slow.write_all(b"\r\n").unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("200 OK"), "{answer}");
    }

    #[test]
    fn the_server_waits_for_connections_and_says_which_are_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _new = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(wait(&listener, &[]).unwrap().is_empty());
        let ((silent, _silent), (talking, mut scraper)) = (connection(), connection());
        scraper.write_all(b"GET").unwrap();
        assert_eq!(wait(&listener, &[silent, talking]).unwrap(), [false, true]);
    }

    /// Beyond the maximum, the oldest connections are closed.
    #[test]
    fn the_oldest_of_too_many_connections_is_ended() {
        let server = server();
        let address = server.address().unwrap();
        let connect = || TcpStream::connect(address).unwrap();
        let mut silent: Vec<_> = (0..MAX_CONNECTIONS + 1).map(|_| connect()).collect();
        assert_eq!(silent[0].read(&mut [0]).unwrap_or(0), 0);
        assert!(say(&server, b"GET /metrics HTTP/1.1\r\n\r\n").contains("200 OK"));
    }

    #[test]
    fn who_says_nothing_for_too_long_is_not_waited_for() {
        let server = with_timeout(Duration::from_millis(100));
        let mut silent = TcpStream::connect(server.address().unwrap()).unwrap();
        silent.write_all(b"GET /met").unwrap();
        assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
    }

    /// Both ends of a connection, the server's as it is served.
    fn connection() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scraper = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().unwrap().0;
        stream.set_nonblocking(true).unwrap();
        (Connection::new(stream, Instant::now() + Duration::from_secs(600)), scraper)
    }

    #[test]
    fn a_request_in_pieces_is_answered_when_it_is_whole() {
        let (mut connection, mut scraper) = connection();
        let answer = |_: &str| Answer::Page("x".repeat(16 << 20));
        for piece in ["GET /met", "rics HTTP/1.1\r\n"] {
            scraper.write_all(piece.as_bytes()).unwrap();
            // It may not have arrived yet; either way there is more to come.
            assert!(connection.advance(&answer).unwrap());
            assert!(!connection.is_answering());
        }
        scraper.write_all(b"\r\n").unwrap();
        // More than the sockets' buffers hold: it goes on when the scraper has read some.
        while connection.advance(&answer).unwrap() && !connection.is_answering() {
            std::thread::yield_now();
        }
        assert!(connection.advance(&answer).unwrap(), "16 MiB fit into the buffers");
        let reading = std::thread::spawn(move || {
            let mut page = Vec::new();
            scraper.read_to_end(&mut page).map(|_| page.len())
        });
        while connection.advance(&answer).unwrap() {
            std::thread::yield_now();
        }
        drop(connection);
        assert!(reading.join().unwrap().unwrap() > 16 << 20);
    }

    #[test]
    fn a_connection_that_breaks_is_over() {
        let answer = |_: &str| Answer::Page("x".repeat(16 << 20));
        // While a request is awaited.
        let (mut awaiting, scraper) = connection();
        assert!(awaiting.advance(&answer).unwrap());
        reset(scraper);
        assert!(until_error(&mut awaiting, &answer));
        // While it is answered.
        let (mut answering, mut scraper) = connection();
        scraper.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        while !answering.is_answering() {
            assert!(answering.advance(&answer).unwrap());
        }
        reset(scraper);
        assert!(until_error(&mut answering, &answer));
    }

    fn reset(scraper: TcpStream) {
        rustix::net::sockopt::set_socket_linger(&scraper, Some(Duration::ZERO)).unwrap();
    }

    /// True if a connection that was reset is soon known to be over: after so many attempts at most.
    fn until_error(connection: &mut Connection, answer: &dyn Fn(&str) -> Answer) -> bool {
        (0..10_000).any(|_| {
            std::thread::sleep(Duration::from_micros(100));
            connection.advance(answer).is_err()
        })
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let server = server();
        let address = server.address().unwrap();
        let error = Server::start(address, |_| Answer::NotFound).err().unwrap();
        assert!(error.starts_with(&format!("metrics.listen {address}: ")), "{error}");
    }
}
