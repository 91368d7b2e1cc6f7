package redisstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// dialTimeout bounds how long a connection takes to make.
const dialTimeout = 300 * time.Millisecond

// Options configure a store.
type Options struct {
	// URL tells where Redis is:
	//
	//	redis://[user[:password]@]host[:port][/db]
	//	rediss://…                                      the same over TLS
	//	unix://[user[:password]@]/path/to.sock[?db=1]
	//	sentinel://[user[:password]@]host[:port],host[:port]/MASTER[/db]
	//	cluster://[user[:password]@]host[:port],host[:port]
	//
	// User and password are those of Redis itself, percent-encoded.
	URL string
	// Password replaces the URL's.
	Password string
	// SentinelUser and SentinelPassword are those of the Sentinels.
	SentinelUser, SentinelPassword string
	// CAFile holds the certificates, in PEM, that may sign the server's, in
	// place of the system's. It turns TLS on for sentinel and cluster URLs.
	CAFile string
	// Connections is how many round trips may be under way at a time; 4 by
	// default.
	Connections int
	// MaxQueue bounds the calls that wait for a round trip; 4096 by default.
	// Calls beyond it fail with ratelimit.ErrUnavailable.
	MaxQueue int
	// Timeout bounds a call, all in all; 500 ms by default.
	Timeout time.Duration
	// Silence is how long a connection may say nothing to a call before it is
	// given up; 100 ms by default. On a machine without a processor to spare it
	// is not Redis that is silent: who can tell the two apart wants more.
	Silence time.Duration

	virtual func() time.Time // stands for the server's clock in tests
	lives   lives
}

// lives are the times to live, which tests shorten.
type lives struct {
	lease, receipt, tombstone time.Duration
	slack                     time.Duration // by which keys outlive what is in them
}

func (o *Options) setDefaults() {
	if o.Connections == 0 {
		o.Connections = 4
	}
	if o.MaxQueue == 0 {
		o.MaxQueue = 4096
	}
	if o.Timeout == 0 {
		o.Timeout = 500 * time.Millisecond
	}
	if o.Silence == 0 {
		o.Silence = 100 * time.Millisecond
	}
	if o.lives == (lives{}) {
		o.lives = lives{ratelimit.LeaseTTL, ratelimit.ReceiptTTL, ratelimit.TombstoneTTL, time.Second}
	}
}

// target is what a URL says.
type target struct {
	scheme         string
	addrs          []string // of the server, the Sentinels or some nodes; the path of a socket
	master         string   // that Sentinels know
	user, password string
	db             int
	tls            *tls.Config
}

// parse reads the URL. Its errors show no part of the password.
func (o *Options) parse() (target, error) {
	scheme, rest, ok := strings.Cut(o.URL, "://")
	if !ok {
		return target{}, errors.New("redis URL: want redis://, rediss://, unix://, sentinel:// or cluster://")
	}
	t := target{scheme: scheme}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if err := t.credentials(rest[:at]); err != nil {
			return target{}, err
		}
		rest = rest[at+1:]
	}
	if o.Password != "" {
		t.password = o.Password
	}
	if err := t.place(rest); err != nil {
		return target{}, fmt.Errorf("redis URL: %s://…%s: %w", scheme, rest, err)
	}
	if scheme == "rediss" || o.CAFile != "" {
		var err error
		if t.tls, err = tlsConfig(o.CAFile); err != nil {
			return target{}, err
		}
	}
	return t, nil
}

func (t *target) credentials(text string) error {
	user, password, _ := strings.Cut(text, ":")
	var errUser, errPassword error
	t.user, errUser = url.PathUnescape(user)
	t.password, errPassword = url.PathUnescape(password)
	if errUser != nil || errPassword != nil {
		return errors.New("redis URL: user or password: not percent-encoded: write %25 for %, %40 for @, %2F for /")
	}
	return nil
}

// place reads what stands after the credentials.
func (t *target) place(rest string) error {
	if t.scheme == "unix" {
		path, query, _ := strings.Cut(rest, "?")
		if !strings.HasPrefix(path, "/") {
			return errors.New("want the path of a socket")
		}
		t.addrs = []string{path}
		return t.index(strings.TrimPrefix(query, "db="))
	}
	hosts, path, _ := strings.Cut(rest, "/")
	port, most := "6379", 1
	switch t.scheme {
	case "redis", "rediss":
	case "cluster":
		most = len(hosts)
		if path != "" {
			return errors.New("want no database: a cluster has one")
		}
	case "sentinel":
		port, most = "26379", len(hosts)
		if t.master, path, _ = strings.Cut(path, "/"); t.master == "" {
			return errors.New("want the name of the master, as in sentinel://host1,host2/mymaster")
		}
	default:
		return errors.New("want redis://, rediss://, unix://, sentinel:// or cluster://")
	}
	if err := t.hosts(hosts, port); err != nil {
		return err
	}
	if len(t.addrs) > most {
		return errors.New("want one host")
	}
	return t.index(path)
}

func (t *target) hosts(list, port string) error {
	for host := range strings.SplitSeq(list, ",") {
		name, number, err := net.SplitHostPort(host)
		if err != nil {
			name, number = strings.Trim(host, "[]"), port
		}
		if n, err := strconv.Atoi(number); name == "" || err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("host %q: want host or host:port", host)
		}
		t.addrs = append(t.addrs, net.JoinHostPort(name, number))
	}
	return nil
}

func (t *target) index(text string) (err error) {
	if text == "" {
		return nil
	}
	if t.db, err = strconv.Atoi(text); err != nil || t.db < 0 {
		return fmt.Errorf("database %q: want a number", text)
	}
	return nil
}

func tlsConfig(caFile string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("redis CA file: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("redis CA file %s: no certificate in it: want PEM", caFile)
	}
	return cfg, nil
}
