package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weir-gateway/weir/ledger"
	"github.com/weir-gateway/weir/ledger/report"
)

// usageCmd is weir usage.
type usageCmd struct {
	configFlags
	By       string   `default:"key,model" placeholder:"FIELDS" help:"What to sum by, with commas between: key, user, team, plan, model, upstream, endpoint, outcome, month, day, hour (${default})."`
	Since    string   `placeholder:"TIME" help:"Only requests from then on: 2026-11-24, 2026-11-24T15:00, RFC 3339, or how long ago: 36h, 7d."`
	Until    string   `placeholder:"TIME" help:"Only requests before then."`
	Key      []string `placeholder:"ID" help:"Only requests of this key. May be repeated."`
	Model    []string `placeholder:"NAME" help:"Only requests for this model. May be repeated."`
	Timezone string   `default:"UTC" placeholder:"ZONE" help:"Of days, hours and times, such as Europe/Berlin or Local (${default})."`
	Output   string   `short:"o" default:"table" enum:"table,json,csv" help:"table, json or csv (${default})."`
	Files    []string `arg:"" optional:"" help:"Ledger files; each with those that were put aside from it. - is the standard input. Default: the configuration's."`
}

// Run sums, and prints.
func (c *usageCmd) Run(e *env) error {
	query, err := c.query(time.Now())
	if err != nil {
		return usageError{err}
	}
	files, err := c.files(e, query.Since)
	if err != nil {
		return err
	}
	sums := report.New(query)
	broken, err := readLedgers(e, files, sums)
	if err != nil {
		return err
	}
	switch c.Output {
	case "json":
		err = printUsageJSON(e.stdout, query, sums)
	case "csv":
		err = printUsageCSV(e.stdout, query, sums)
	default:
		err = printUsage(e.stdout, query, sums)
	}
	if err == nil && broken {
		return errNo // what is wrong is said already
	}
	return err
}

func (c *usageCmd) query(now time.Time) (q report.Query, err error) {
	q.Keys, q.Models = c.Key, c.Model
	if q.By, err = report.ParseFields(c.By); err != nil {
		return q, fmt.Errorf("--by: %w", err)
	}
	if q.Zone, err = time.LoadLocation(c.Timezone); err != nil {
		return q, fmt.Errorf("--timezone: %w", err)
	}
	if q.Since, err = parseTime(c.Since, q.Zone, now); err != nil {
		return q, fmt.Errorf("--since: %w", err)
	}
	if q.Until, err = parseTime(c.Until, q.Zone, now); err != nil {
		return q, fmt.Errorf("--until: %w", err)
	}
	return q, nil
}

// parseTime reads a point in time, or how long before now it is. "" is the zero time.
func parseTime(text string, zone *time.Location, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02 15:04", time.DateTime, time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days+" ", "%d ", &n); err == nil && n >= 0 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time: want 2026-11-24, 2026-11-24T15:00, 2026-11-24T15:00:00Z, or how long ago, such as 36h or 7d", text)
}

// files are the files to read, the oldest first. Those that were not written to since
// are left out.
func (c *usageCmd) files(e *env, since time.Time) (files []string, err error) {
	named := c.Files
	if len(named) == 0 {
		cfg, err := c.partly(e, "ledger")
		if err != nil {
			return nil, err
		}
		if cfg == nil {
			return nil, errNoConfig
		}
		file := nameOf(cfg)
		switch cfg.Ledger.File {
		case "":
			return nil, fmt.Errorf("%s has no ledger: add `ledger: {file: usage.jsonl}` to have one, or name the files to read", file)
		case ledger.Stdout:
			return nil, fmt.Errorf("%s has its ledger on the standard output: name the files that it was kept in", file)
		}
		named = []string{cfg.Ledger.File}
	}
	for _, name := range named {
		found := []string{name}
		if name != ledger.Stdout {
			if found = ledger.Files(name); len(found) == 0 {
				return nil, fmt.Errorf("there is no ledger %s: %w", name, fs.ErrNotExist)
			}
		}
		for _, f := range found {
			if !slices.Contains(files, f) && !untouched(f, since) {
				files = append(files, f)
			}
		}
	}
	return files, nil
}

func untouched(file string, since time.Time) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.ModTime().Before(since)
}

// maxSaid is how many broken lines are told one by one.
const maxSaid = 10

// readLedgers adds all records of the files. It says which lines are broken, and tells
// whether some are that no crash explains.
func readLedgers(e *env, files []string, sums *report.Report) (broken bool, err error) {
	progress := newProgress(e.stderr, files)
	defer progress.clear()
	said := 0
	say := func(b *ledger.BrokenLine) {
		broken = broken || !b.Cut
		if said++; said <= maxSaid {
			progress.clear()
			fmt.Fprintf(e.stderr, "weir: %v\n", b)
		}
	}
	for _, name := range files {
		if err := e.ctx.Err(); err != nil {
			return broken, err
		}
		progress.file(name)
		if name == ledger.Stdout {
			err = ledger.Read(os.Stdin, "standard input", sums.Add, say)
		} else {
			err = ledger.ReadFile(name, sums.Add, say, progress.add)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // one may have been put aside or removed meanwhile
			return broken, err
		}
	}
	if said > maxSaid {
		progress.clear()
		fmt.Fprintf(e.stderr, "weir: and %d more such lines\n", said-maxSaid)
	}
	return broken, nil
}
