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
	pepper, err := Pepper(cfg.PepperFile)
	if err != nil {
		return nil, nil, err
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

// Pepper reads the secret of peppered hashes; it is nil where there is no such file.
func Pepper(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	pepper, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read pepper: %w", err)
	}
	if pepper = bytes.TrimSpace(pepper); len(pepper) < 16 {
		return nil, fmt.Errorf("read pepper: %s holds fewer than 16 bytes", file)
	}
	return pepper, nil
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
		if err := r.addKey(file, k); err != nil {
			return false, config.At(file, text, fmt.Sprintf("keys[%d]", i), err)
		}
	}
	return secrets, nil
}

// IDOf is the id of a key of a file, which may be derived from its secret.
func IDOf(k *configv1.Key) string {
	if k.GetId() != "" {
		return k.GetId()
	}
	_, d, err := (&Ring{pepper: []byte{}}).digestOf(k.GetHash(), k.GetSecret())
	if err != nil {
		return ""
	}
	return derivedID(d)
}

func (r *Ring) addKey(file string, k *configv1.Key) error {
	key, err := fromProto(k)
	if err != nil {
		return err
	}
	key.File = file
	in, d, err := r.digestOf(k.GetHash(), k.GetSecret())
	if err != nil {
		return err
	}
	if err := r.add(in, d, key); err != nil {
		return err
	}
	for i, p := range k.GetPrevious() {
		in, d, err := r.digestOf(p.GetHash(), p.GetSecret())
		if err != nil {
			return fmt.Errorf("previous[%d]: %w", i, err)
		}
		until, err := moment(p.GetUntil())
		if err != nil {
			return fmt.Errorf("previous[%d].until: %w", i, err)
		}
		if err := r.addPrevious(in, d, key, until); err != nil {
			return err
		}
	}
	return nil
}

// digestOf is the digest of a secret, given as itself or as a hash, and where in the
// ring it belongs.
func (r *Ring) digestOf(hash, secret string) (in map[digest]entry, d digest, err error) {
	if secret != "" {
		return r.plain, plainDigest(secret), nil
	}
	kind, digits, _ := strings.Cut(hash, ":")
	if _, err := hex.Decode(d[:], []byte(digits)); err != nil {
		return nil, d, fmt.Errorf("hash: %w", err)
	}
	if kind == "sha256" {
		return r.plain, d, nil
	}
	if r.pepper == nil {
		return nil, d, errors.New("hash: hmac-sha256 needs keys.pepper_file in weir.yaml")
	}
	return r.peppered, d, nil
}

func fromProto(k *configv1.Key) (key *Key, err error) {
	key = &Key{
		ID: k.GetId(), User: k.GetUser(), Team: k.GetTeam(), Plan: k.GetPlan(),
		Models: k.GetModels(), Endpoints: k.GetEndpoints(),
		Disabled: k.Enabled != nil && !k.GetEnabled(),
		Limits:   config.Limits(k.GetLimits()),
		Label:    k.GetLabel(), Metadata: k.GetMetadata(),
	}
	for _, c := range k.GetCidrs() {
		p, err := netip.ParsePrefix(c)
		if err != nil {
			return nil, fmt.Errorf("cidrs: %w", err)
		}
		key.CIDRs = append(key.CIDRs, p)
	}
	if key.Expires, err = moment(k.GetExpires()); err != nil {
		return nil, fmt.Errorf("expires: %w", err)
	}
	if key.Created, err = moment(k.GetCreated()); err != nil {
		return nil, fmt.Errorf("created: %w", err)
	}
	if key.Revoked, err = moment(k.GetRevoked()); err != nil {
		return nil, fmt.Errorf("revoked: %w", err)
	}
	return key, nil
}

// moment reads a time in RFC 3339; "" is the zero time.
func moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, text)
}

// OlderFile is the format of FastAPI gateways.
type OlderFile struct {
	Keys []OlderKey `json:"keys"`
}

// OlderKey is a key in it.
type OlderKey struct {
	Key     string `json:"key"` // the secret
	User    string `json:"user"`
	Quota   int64  `json:"quota"` // tokens a minute; 0: no limit
	Enabled *bool  `json:"enabled"`
}

// Message is the key in weir's own format, with the id that it has had all along and a
// hash of its secret.
func (o OlderKey) Message(pepper []byte) *configv1.Key {
	k := &configv1.Key{Id: derivedID(plainDigest(o.Key)), Hash: PepperedHash(pepper, o.Key), User: o.User}
	if o.Enabled != nil && !*o.Enabled {
		k.Enabled = new(false)
	}
	if o.Quota > 0 {
		k.Limits = []*configv1.Limit{{Name: "quota", Per: []configv1.Scope{configv1.Scope_key}, Tokens: fmt.Sprintf("%d/m", o.Quota)}}
	}
	return k
}

// addJSON reads the older format.
func (r *Ring) addJSON(file string, text []byte) (secrets bool, err error) {
	var f OlderFile
	if err := json.Unmarshal(text, &f); err != nil {
		return false, fmt.Errorf("%s%s: %w", file, position(text, err), err)
	}
	if len(f.Keys) == 0 {
		return false, fmt.Errorf("%s: holds no keys; to revoke all, set \"enabled\": false on each", file)
	}
	for i, k := range f.Keys {
		if k.Key == "" || k.Quota < 0 {
			return false, config.At(file, text, fmt.Sprintf("keys[%d]", i), errors.New("needs a key that is not empty and a quota that is not negative"))
		}
		key := &Key{User: k.User, File: file, Disabled: k.Enabled != nil && !*k.Enabled}
		if k.Quota > 0 {
			key.Limits = []config.Limit{{
				Name: "quota", Per: []config.Scope{config.PerKey}, Unit: config.Tokens, Amount: k.Quota, Window: time.Minute,
			}}
		}
		if err := r.add(r.plain, plainDigest(k.Key), key); err != nil {
			return false, config.At(file, text, fmt.Sprintf("keys[%d]", i), err)
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
