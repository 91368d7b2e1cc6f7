package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/weir-gateway/weir/config"
)

// named is a file that a configuration names.
type named struct {
	path string // of the field
	file string
	hint string // how to make one
}

// filesOf are the files that weir reads itself; those of Envoy may be elsewhere.
func filesOf(cfg *config.Config) (list []named) {
	for i, f := range cfg.Keys.Files {
		list = append(list, named{fmt.Sprintf("keys.files[%d]", i), f, "weir keys new makes it, with a first key"})
	}
	list = append(list, named{"keys.pepper_file", cfg.Keys.PepperFile, ""})
	if cfg.Admin.Listen != "" {
		list = append(list, named{"admin.token_file", cfg.Admin.TokenFile, "make one with: (umask 077; openssl rand -hex 32 > " + cfg.Admin.TokenFile + ")"})
	}
	if r := cfg.Redis; r != nil {
		list = append(list, named{"store.redis.password_file", r.PasswordFile, ""}, named{"store.redis.ca_file", r.CAFile, ""})
	}
	for i, u := range cfg.Upstreams {
		at := fmt.Sprintf("upstreams[%d].", i)
		list = append(list, named{at + "key_file", u.KeyFile, ""})
		if u.Pool != nil {
			list = append(list, named{at + "keys.file", u.Pool.File, "it has a key of the upstream on each line"})
		}
	}
	return list
}

// envoysFiles are those that Envoy reads.
func envoysFiles(cfg *config.Config) (list []named) {
	if cfg.TLS != nil {
		list = append(list, named{"tls.cert_file", cfg.TLS.CertFile, ""}, named{"tls.key_file", cfg.TLS.KeyFile, ""})
	}
	for i, u := range cfg.Upstreams {
		list = append(list, named{fmt.Sprintf("upstreams[%d].ca_file", i), u.CAFile, ""})
	}
	return list
}

// unreadable tells of all files at once that are not there, or not for this user.
func unreadable(cfg *config.Config, list []named) error {
	var wrong []error
	for _, n := range list {
		if n.file == "" {
			continue
		}
		f, err := os.Open(n.file)
		switch {
		case err == nil:
			_ = f.Close() // it was not written to
			continue
		case errors.Is(err, fs.ErrNotExist) && n.hint != "":
			err = cfg.MistakeIn(n.path, "there is no such file as %s: %s", n.file, n.hint)
		case errors.Is(err, fs.ErrNotExist):
			err = cfg.MistakeIn(n.path, "there is no such file as %s", n.file)
		case errors.Is(err, fs.ErrPermission):
			err = cfg.MistakeIn(n.path, "%s may not be read by this user", n.file)
		default:
			err = cfg.MistakeIn(n.path, "%v", err)
		}
		wrong = append(wrong, err)
	}
	return config.Join(wrong...)
}
