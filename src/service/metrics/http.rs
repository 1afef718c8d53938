//! As much of HTTP/1.1 as a scraper needs: GET, one request a connection, one connection at a time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::CONTENT_TYPE;

/// Longest request.
const MAX_BYTES: usize = 8192;
/// How long a client may take to say it, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200.
    Page(String),
    /// 503: there is nothing good to say.
    Unavailable(String),
    /// 404.
    NotFound,
}

/// A listener and its thread; both end when this is dropped.
pub struct Server {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers GET requests for paths with what `answer` says.
    ///
    /// # Errors
    /// The address can't be listened on.
    pub fn start(
        address: SocketAddr,
        answer: impl Fn(&str) -> Answer + Send + 'static,
    ) -> Result<Server, String> {
        let failed = |error: io::Error| format!("metrics.listen {address}: {error}");
        let listener = TcpListener::bind(address).map_err(failed)?;
        let accepting = listener.try_clone().map_err(failed)?;
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(move || {
            loop {
                match accepting.accept() {
                    // What a scraper does wrong is its own affair.
                    Ok((stream, _)) => drop(serve(&stream, &answer)),
                    // Shut down: the daemon ends.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                    Err(error) => {
                        log::warn!("metrics: accept: {error}");
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        });
        Ok(Server { listener, thread: Some(thread.map_err(failed)?) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system doesn't say.
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

fn serve(stream: &TcpStream, answer: &dyn Fn(&str) -> Answer) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let (status, body) = match request(stream)? {
        Some(line) => reply(&line, answer),
        None => ("431 Request Header Fields Too Large", "request is too long\n".into()),
    };
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut to = stream;
    to.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)
}

/// The request's first line, once all of it has come; `None`: it is too long.
fn request(mut stream: &TcpStream) -> io::Result<Option<String>> {
    let end = Instant::now() + PATIENCE;
    let mut bytes = [0; MAX_BYTES];
    let mut got = 0;
    while got < MAX_BYTES {
        // However slowly it trickles in.
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes[got..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => got += more,
        }
        if bytes[..got].windows(4).any(|window| window == b"\r\n\r\n") {
            let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
            return Ok(Some(String::from_utf8_lossy(line).into_owned()));
        }
    }
    Ok(None)
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
        let answer = |path: &str| match path {
            "/metrics" => Answer::Page("pi0rt_up 1\n".into()),
            "/healthz" => Answer::Unavailable("it hangs".into()),
            _ => Answer::NotFound,
        };
        Server::start("127.0.0.1:0".parse().unwrap(), answer).unwrap()
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

    #[test]
    fn who_says_nothing_is_not_waited_for_for_ever() {
        let server = server();
        let silent = TcpStream::connect(server.address().unwrap()).unwrap();
        assert!(say(&server, b"GET /metrics HTTP/1.1\r\n\r\n").contains("200 OK"));
        drop(silent);
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let server = server();
        let address = server.address().unwrap();
        let error = Server::start(address, |_| Answer::NotFound).err().unwrap();
        assert!(error.starts_with(&format!("metrics.listen {address}: ")), "{error}");
    }
}
