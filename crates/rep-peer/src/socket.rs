//! Sockets of the link and their options.

use crate::limits::UNACKNOWLEDGED_TIME_MAX;
use nix::sys::socket::sockopt::{
    IpBindAddressNoPort, Ipv6V6Only, KeepAlive, ReuseAddr, TcpCongestion, TcpKeepCount, TcpKeepIdle, TcpKeepInterval,
    TcpNoDelay, TcpUserTimeout,
};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket};
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

fn stream(address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
}

/// A socket that listens at `address`.
pub(crate) fn listening(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = stream(address)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(16)?)?;
    Ok(socket)
}

/// A socket to dial with, from this node's address of the link.
pub(crate) fn dialing(own: SocketAddr, peer: SocketAddr) -> io::Result<OwnedFd> {
    let socket = stream(peer)?;
    if !own.ip().is_unspecified() && own.is_ipv4() == peer.is_ipv4() {
        // The kernel picks the port at connect, by the whole four-tuple.
        let _ = setsockopt(&socket, IpBindAddressNoPort, &true);
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(own.ip(), 0)))?;
    }
    Ok(socket)
}

/// No waiting for more to send, and a peer that vanished is found out by the kernel too.
pub(crate) fn set_options(socket: &OwnedFd) -> io::Result<()> {
    setsockopt(socket, TcpNoDelay, &true)?;
    // Where the system's choice paces (BBR), every acknowledgement would wait for a timer. This one sends what it may at
    // once; a kernel without it keeps its own.
    let _ = setsockopt(socket, TcpCongestion, &OsString::from("cubic"));
    setsockopt(socket, KeepAlive, &true)?;
    setsockopt(socket, TcpKeepIdle, &10)?;
    setsockopt(socket, TcpKeepInterval, &5)?;
    setsockopt(socket, TcpKeepCount, &4)?;
    setsockopt(socket, TcpUserTimeout, &(UNACKNOWLEDGED_TIME_MAX.as_millis() as u32))?;
    Ok(())
}
