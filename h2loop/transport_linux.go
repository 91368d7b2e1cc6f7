package h2loop

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where messages come one right after the other, a thread that waits in read is woken by the
// kernel itself, and by nobody else. By way of Go's poller another one is, which takes the goroutine
// over and wakes one more to look for work. Where messages come now and then it is the other way
// round: as long as a thread waits in a system call with a processor of Go's, the runtime looks
// after it every 20 µs.
const (
	near  = 4 * time.Millisecond // are those that come one right after the other,
	often = 32                   // if so many do
	pause = 8 * time.Millisecond // is as long as a thread waits for the next one
)

// threads are how many wait in read. One of Go's processors is always left to others.
var threads atomic.Int32

// socket is a connection that is read by way of Go's poller, or by a thread that waits.
type socket struct {
	fd     int
	polled *os.File        // the same for Go's poller; nil while a thread waits
	poller syscall.RawConn // polled's
	try    func(uintptr) bool
	buffer []byte    // of the Read that tries, which has taken
	n      int       // so much, or
	err    error     // failed
	last   time.Time // when something came
	row    int       // how much came one right after the other

	patience time.Duration // how long the client may take nothing

	mu     sync.Mutex // guards closed, so that another file's number is never shut down
	closed bool
}

// newTransport takes a connection over.
func newTransport(accepted net.Conn, patience time.Duration) (transport, error) {
	conn, ok := accepted.(syscall.Conn)
	if !ok {
		return polled{accepted, patience}, nil
	}
	s, err := takeOver(conn, patience)
	if err != nil {
		return nil, fmt.Errorf("take a connection over: %w", err)
	}
	if err := accepted.Close(); err != nil {
		s.close()
		return nil, fmt.Errorf("take a connection over: %w", err)
	}
	return s, nil
}

func takeOver(conn syscall.Conn, patience time.Duration) (*socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{fd: -1, patience: patience}
	s.try = s.receive
	var failed error
	if err := raw.Control(func(fd uintptr) { s.fd, failed = duplicate(int(fd)) }); err != nil || failed != nil {
		return nil, errors.Join(err, failed)
	}
	timeout := unix.NsecToTimeval(pause.Nanoseconds())
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return nil, errors.Join(err, unix.Close(s.fd))
	}
	if err := s.poll(); err != nil {
		return nil, errors.Join(err, unix.Close(s.fd))
	}
	return s, nil
}

func duplicate(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }

// poll has Go's poller wait. It hears of an epoll instance of this socket's own, which tells
// of nothing but what there is to read: Go's asks of each file that it knows also when it can be
// written to, and so would wake a thread each time that the client has taken an answer.
func (s *socket) poll() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	readable := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP}
	if err := errors.Join(unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, s.fd, &readable), unix.SetNonblock(fd, true)); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	s.polled = os.NewFile(uintptr(fd), "socket")
	s.poller, err = s.polled.SyscallConn()
	return err
}

// block has this thread wait, if there is a processor to spare.
func (s *socket) block() error {
	if int(threads.Add(1)) >= runtime.GOMAXPROCS(0) {
		threads.Add(-1)
		s.row = 0
		return nil
	}
	err := errors.Join(s.polled.Close(), unix.SetNonblock(s.fd, false))
	s.polled = nil
	return err
}

// Read is called by one goroutine alone.
func (s *socket) Read(b []byte) (int, error) {
	for {
		n, err := s.read(b)
		switch {
		case n > 0:
			return n, s.came()
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN): // nothing for a while
			if err := s.poll(); err != nil {
				return 0, err
			}
			threads.Add(-1)
			s.row = 0
		case err != nil:
			return 0, err
		default:
			return 0, io.EOF
		}
	}
}

func (s *socket) read(b []byte) (int, error) {
	if s.polled == nil {
		return unix.Read(s.fd, b)
	}
	s.buffer, s.n, s.err = b, 0, nil
	if err := s.poller.Read(s.try); err != nil {
		return 0, err
	}
	return s.n, s.err
}

// receive reads what there is, and tells whether there is something to tell.
func (s *socket) receive(uintptr) bool {
	n, err := atOnce(unix.SYS_RECVFROM, uintptr(s.fd), s.buffer, 0)
	if errors.Is(err, unix.EAGAIN) {
		return false
	}
	s.n, s.err = n, err
	return true
}

// atOnce is a system call that does not wait, and so one that Go's runtime need not hear of:
// it would wake a thread that looks after those that do.
func atOnce(call, fd uintptr, b []byte, flags uintptr) (int, error) {
	n, _, errno := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags|unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil //nolint:gosec // at most len(b)
}

// came counts what comes in a row, and chooses who waits for the next.
func (s *socket) came() error {
	now := time.Now()
	s.row++
	if now.Sub(s.last) > near {
		s.row = 0
	}
	s.last = now
	if s.row < often || s.polled == nil {
		return nil
	}
	return s.block()
}

// Write is called by one goroutine at a time.
func (s *socket) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		n, err := atOnce(unix.SYS_SENDTO, uintptr(s.fd), b[written:], unix.MSG_NOSIGNAL)
		switch {
		case err == nil:
			written += n
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if err := s.writable(); err != nil {
				return written, err
			}
		default:
			return written, os.NewSyscallError("write", err)
		}
	}
	return written, nil
}

// writable waits for the client to take something.
func (s *socket) writable() error {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}} //nolint:gosec // a descriptor
	n, err := unix.Poll(fds, int(s.patience.Milliseconds()))
	if n == 0 && err == nil {
		return os.ErrDeadlineExceeded
	}
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

func (s *socket) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		_ = unix.Shutdown(s.fd, unix.SHUT_RDWR) // it fails if the client is gone
	}
}

func (s *socket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.polled != nil {
		_ = s.polled.Close()
	} else {
		threads.Add(-1)
	}
	_ = unix.Close(s.fd)
}
