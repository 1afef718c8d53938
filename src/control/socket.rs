//! Packets and descriptors over a unix seqpacket socket.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg, socket_with,
    sockopt,
};

use super::MAX_FDS;
use crate::shm::clock::now_ns;

/// The connection to a daemon failed.
#[derive(Debug, thiserror::Error)]
#[error("socket {}: {errno}", path.display())]
pub struct ConnectError {
    /// Path of the socket.
    pub path: PathBuf,
    /// Error code of the system call.
    pub errno: Errno,
}

/// Result of reading from the socket.
#[derive(Debug)]
pub enum Received {
    /// A packet of this length is in the buffer.
    Packet(usize),
    /// No packet is waiting.
    Nothing,
    /// The peer has closed the connection.
    Closed,
    /// A packet longer than any message.
    TooLong,
}

/// Connects to a daemon. Waits without a limit while its queue of connections is full.
///
/// # Errors
/// The path of the socket and the system's error.
pub fn connect(path: &Path) -> Result<OwnedFd, ConnectError> {
    connect_until(path, u64::MAX)
}

/// Connects to a daemon until a deadline, CLOCK_MONOTONIC, ns.
///
/// # Errors
/// As [`connect`]; AGAIN when the queue of connections was full until then.
pub fn connect_until(path: &Path, deadline_ns: u64) -> Result<OwnedFd, ConnectError> {
    let error = |errno| ConnectError { path: path.to_owned(), errno };
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(error)?;
    let address = SocketAddrUnix::new(path).map_err(error)?;
    loop {
        // The time limit of a send is that of a connect, too; 0 would be none.
        let left = Duration::from_nanos(deadline_ns.saturating_sub(now_ns())).max(Duration::from_micros(1));
        let left = (deadline_ns < u64::MAX).then_some(left);
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, left).map_err(error)?;
        match rustix::net::connect(&socket, &address) {
            Err(Errno::INTR) => {}
            result => return result.map(|()| socket).map_err(error),
        }
    }
}

/// Sends a packet without waiting for room.
///
/// # Errors
/// The peer doesn't read (AGAIN), is gone, or the system call fails.
pub fn send(socket: BorrowedFd<'_>, packet: &[u8]) -> Result<(), Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::io::retry_on_intr(|| rustix::net::send(socket, packet, flags)).map(drop)
}

/// Sends a packet with descriptors, without waiting for room.
///
/// # Errors
/// As [`send`].
pub fn send_with_fds(socket: BorrowedFd<'_>, packet: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE);
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(packet)], &mut ancillary, flags).map(drop)
}

/// Receives a packet if one is waiting. Descriptors that come with it are refused by the kernel.
///
/// # Errors
/// The system call failed.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut none = RecvAncillaryBuffer::default();
    take(socket, buffer, &mut none)
}

/// Receives a packet and the descriptors that come with it.
///
/// # Errors
/// The system call failed.
pub fn receive_with_fds(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<(Received, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = take(socket, buffer, &mut ancillary)?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((received, fds))
}

fn take(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    ancillary: &mut RecvAncillaryBuffer<'_>,
) -> Result<Received, Errno> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut slices = [IoSliceMut::new(buffer)];
    let mut receive = || rustix::io::retry_on_intr(|| recvmsg(socket, &mut slices, ancillary, flags));
    let message = match receive() {
        // The peer closed without reading all we sent; its last packets are still behind this.
        Err(Errno::CONNRESET) => receive(),
        result => result,
    };
    let message = match message {
        Ok(message) => message,
        Err(Errno::AGAIN) => return Ok(Received::Nothing),
        Err(Errno::CONNRESET | Errno::PIPE) => return Ok(Received::Closed),
        Err(errno) => return Err(errno),
    };
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Received::TooLong);
    }
    // No message is empty: nothing but the end of the connection reads as zero bytes.
    Ok(if message.bytes == 0 { Received::Closed } else { Received::Packet(message.bytes) })
}
