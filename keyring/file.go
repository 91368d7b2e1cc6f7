package keyring

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/weir-gateway/weir/config"
	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// load builds a ring from files. Warnings tell of what works but is unsafe.
func load(cfg config.Keys) (r *Ring, warnings []string, err error) {
	var pepper []byte
	if cfg.PepperFile != "" {
		if pepper, err = os.ReadFile(cfg.PepperFile); err != nil {
			return nil, nil, fmt.Errorf("read pepper: %w", err)
		}
		if pepper = bytes.TrimSpace(pepper); len(pepper) < 16 {
			return nil, nil, fmt.Errorf("read pepper: %s holds fewer than 16 bytes", cfg.PepperFile)
		}
	}
	r = emptyRing(pepper)
	for _, file := range cfg.Files {
		w, err := r.addFile(file)
		if err != nil {
			return nil, nil, err
		}
		warnings = append(warnings, w...)
	}
	return r, warnings, nil
}

func (r *Ring) addFile(file string) (warnings []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	var secrets bool
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		secrets, err = r.addJSON(file, text)
	} else {
		secrets, err = r.addYAML(file, text)
	}
	if secrets && info.Mode().Perm()&0o077 != 0 {
		warnings = append(warnings, fmt.Sprintf("%s holds secrets and can be read by others: chmod 600 %s", file, file))
	}
	return warnings, err
}

// addYAML reads weir's own format.
func (r *Ring) addYAML(file string, text []byte) (secrets bool, err error) {
	msg, err := config.ParseKeyFile(file, text)
	if err != nil {
		return false, err
	}
	if len(msg.GetKeys()) == 0 {
		return false, fmt.Errorf("%s: holds no keys; to revoke all, set enabled: false on each", file)
	}
	for i, k := range msg.GetKeys() {
		secrets = secrets || k.GetSecret() != ""
		if err := r.addKey(k); err != nil {
			return false, fmt.Errorf("%s: keys[%d]: %w", file, i, err)
		}
	}
	return secrets, nil
}

func (r *Ring) addKey(k *configv1.Key) error {
	key, err := fromProto(k)
	if err != nil {
		return err
	}
	if k.GetSecret() != "" {
		return r.add(r.plain, plainDigest(k.GetSecret()), key)
	}
	kind, digits, _ := strings.Cut(k.GetHash(), ":")
	var d digest
	if _, err := hex.Decode(d[:], []byte(digits)); err != nil {
		return fmt.Errorf("hash: %w", err)
	}
	if kind == "sha256" {
		return r.add(r.plain, d, key)
	}
	if r.pepper == nil {
		return errors.New("hash: hmac-sha256 needs keys.pepper_file in weir.yaml")
	}
	return r.add(r.peppered, d, key)
}

func fromProto(k *configv1.Key) (*Key, error) {
	key := &Key{
		ID: k.GetId(), User: k.GetUser(), Team: k.GetTeam(), Plan: k.GetPlan(),
		Models: k.GetModels(), Endpoints: k.GetEndpoints(),
		Disabled: k.Enabled != nil && !k.GetEnabled(),
		Limits:   config.Limits(k.GetLimits()),
	}
	for _, c := range k.GetCidrs() {
		p, err := netip.ParsePrefix(c)
		if err != nil {
			return nil, fmt.Errorf("cidrs: %w", err)
		}
		key.CIDRs = append(key.CIDRs, p)
	}
	if k.GetExpires() != "" {
		t, err := time.Parse(time.RFC3339, k.GetExpires())
		if err != nil {
			return nil, fmt.Errorf("expires: %w", err)
		}
		key.Expires = t
	}
	return key, nil
}

// olderFile is the format of FastAPI gateways: quota is tokens a minute.
type olderFile struct {
	Keys []struct {
		Key     string `json:"key"`
		User    string `json:"user"`
		Quota   int64  `json:"quota"`
		Enabled *bool  `json:"enabled"`
	} `json:"keys"`
}

// addJSON reads the older format.
func (r *Ring) addJSON(file string, text []byte) (secrets bool, err error) {
	var f olderFile
	if err := json.Unmarshal(text, &f); err != nil {
		return false, fmt.Errorf("%s%s: %w", file, position(text, err), err)
	}
	if len(f.Keys) == 0 {
		return false, fmt.Errorf("%s: holds no keys; to revoke all, set \"enabled\": false on each", file)
	}
	for i, k := range f.Keys {
		if k.Key == "" || k.Quota < 0 {
			return false, fmt.Errorf("%s: keys[%d]: needs a key that is not empty and a quota that is not negative", file, i)
		}
		key := &Key{User: k.User, Disabled: k.Enabled != nil && !*k.Enabled}
		if k.Quota > 0 {
			key.Limits = []config.Limit{{
				Name: "quota", Per: []config.Scope{config.PerKey}, Unit: config.Tokens, Amount: k.Quota, Window: time.Minute,
			}}
		}
		if err := r.add(r.plain, plainDigest(k.Key), key); err != nil {
			return false, fmt.Errorf("%s: keys[%d]: %w", file, i, err)
		}
	}
	return true, nil
}

// position is ":line:column" of a JSON error, "" when it has none.
func position(text []byte, err error) string {
	var offset int64
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	default:
		return ""
	}
	before := text[:min(int(offset), len(text))]
	line := 1 + bytes.Count(before, []byte("\n"))
	return fmt.Sprintf(":%d:%d", line, len(before)-bytes.LastIndexByte(before, '\n')-1)
}
