package main

import (
	"bufio"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/weir-gateway/weir/envoy"
)

// machine is what figures depend on.
type machine struct {
	CPU    string    `json:"cpu"`
	Cores  int       `json:"cores"`
	Kernel string    `json:"kernel"`
	Go     string    `json:"go"`
	GRPC   string    `json:"grpc"`
	Envoy  string    `json:"envoy"`
	Weir   string    `json:"weir"` // revision
	Date   time.Time `json:"date"`
}

// describe looks at the machine and at the binaries that are measured.
func describe(ctx context.Context, envoyBinary, weirBinary string) (machine, error) {
	m := machine{Cores: runtime.NumCPU(), Envoy: envoy.Version, Date: time.Now().UTC().Truncate(time.Second)}
	if err := envoy.CheckVersion(ctx, envoyBinary); err != nil {
		return m, err
	}
	info, err := buildinfo.ReadFile(weirBinary)
	if err != nil {
		return m, fmt.Errorf("look at weir's binary: %w", err)
	}
	m.built(info)
	cpu, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return m, fmt.Errorf("look at the machine (the benchmark needs Linux): %w", err)
	}
	defer cpu.Close()
	m.CPU = cpuModel(cpu)
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return m, fmt.Errorf("look at the machine: %w", err)
	}
	m.Kernel, _, _ = strings.Cut(strings.TrimSpace(string(release)), "-")
	return m, nil
}

// built fills in what weir was made of.
func (m *machine) built(info *buildinfo.BuildInfo) {
	m.Go = info.GoVersion
	for _, d := range info.Deps {
		if d.Path == "google.golang.org/grpc" {
			m.GRPC = d.Version
		}
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			m.Weir = s.Value[:min(len(s.Value), 12)] + m.Weir
		case s.Key == "vcs.modified" && s.Value == "true":
			m.Weir += " with changes"
		}
	}
}

// cpuModel reads the name from /proc/cpuinfo, which not every architecture has.
func cpuModel(info io.Reader) string {
	lines := bufio.NewScanner(info)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// tick is the unit of /proc/stat: USER_HZ is 100 on all that Go supports.
const tick = 10 * time.Millisecond

// busyTime is what all processes of the machine have used, from the first line
// of /proc/stat: user, nice, system, irq and softirq. See proc_stat(5).
func busyTime(stat []byte) (time.Duration, error) {
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("first line of /proc/stat: %q, want cpu and at least 7 numbers", line)
	}
	var sum time.Duration
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("first line of /proc/stat: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// usage is CPU time by process.
type usage struct {
	Envoy     time.Duration `json:"envoy_ns"`
	Server    time.Duration `json:"server_ns"` // the no-op server or weir
	Plain     time.Duration `json:"plain_ns"`  // plain Envoy, if it had the same load at the same time
	Redis     time.Duration `json:"redis_ns"`
	Simulator time.Duration `json:"simulator_ns"`
	Client    time.Duration `json:"client_ns"` // this program
	Machine   time.Duration `json:"machine_ns"`
}

// readUsage reads every clock now, of a chain and of plain Envoy beside it, if that is there.
func readUsage(c, beside *chain, simulator int) (usage, error) {
	var u usage
	var errs []error
	if beside == nil {
		beside = &chain{}
	}
	for _, p := range []struct {
		pid int
		to  *time.Duration
	}{{c.envoy, &u.Envoy}, {c.server, &u.Server}, {c.redis, &u.Redis}, {beside.envoy, &u.Plain}, {simulator, &u.Simulator}, {os.Getpid(), &u.Client}} {
		if p.pid == 0 {
			continue // no such part in this chain
		}
		var err error
		*p.to, err = cpuTime(p.pid)
		errs = append(errs, err)
	}
	stat, err := os.ReadFile("/proc/stat")
	errs = append(errs, err)
	if err == nil {
		u.Machine, err = busyTime(stat)
		errs = append(errs, err)
	}
	return u, errors.Join(errs...)
}

// since is what was used from u to v.
func (u usage) since(earlier usage) usage {
	return usage{
		Envoy: u.Envoy - earlier.Envoy, Server: u.Server - earlier.Server, Redis: u.Redis - earlier.Redis, Plain: u.Plain - earlier.Plain,
		Simulator: u.Simulator - earlier.Simulator, Client: u.Client - earlier.Client, Machine: u.Machine - earlier.Machine,
	}
}

// others is what programs used that have no part in the benchmark.
func (u usage) others() time.Duration {
	return max(0, u.Machine-u.Envoy-u.Server-u.Redis-u.Plain-u.Simulator-u.Client)
}
