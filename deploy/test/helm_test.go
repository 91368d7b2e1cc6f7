package deploytest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the manifests that are rendered from the chart")

// versions of Kubernetes are the oldest that has sidecars, and the newest whose schemas
// there are.
var versions = []string{"1.29.0", "1.37.0"}

// manifests is what deploy/kubernetes/weir.yaml is rendered from.
const manifests = `
replicas: 2
redis: {url: "redis://redis:6379/0"}
autoscaling: {enabled: true}
`

const everything = `
replicas: 3
imagePullSecrets: [{name: registry}]
secret: upstream-keys
redis: {url: "rediss://weir@redis.example.org:6380/0", passwordSecret: redis, timeout: 100ms}
ledger: /var/lib/weir/usage.jsonl
logLevel: debug
extraEnv: [{name: OTEL_EXPORTER_OTLP_ENDPOINT, value: "http://collector:4317"}]
tlsSecret: certificate
service: {type: LoadBalancer, port: 443, annotations: {example.org/scheme: internal}}
autoscaling: {enabled: true, minReplicas: 3, maxReplicas: 30, cpuPercent: 60}
networkPolicy: {clients: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: apps}}}]}
podLabels: {team: ml}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: gateway, operator: Exists}]
affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: fast, operator: Exists}]}}]}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule}]
priorityClassName: high
config:
  envoy: {access_log: stdout}
  upstreams:
    - {name: megallm, url: "https://example.org/v1", keys: {file: /etc/weir/secrets/megallm}, models: discover}
`

// TestHelm renders the chart as helm template does and has every object checked against
// Kubernetes' schemas, and weir.yaml by weir.
func TestHelm(t *testing.T) {
	for name, values := range map[string]string{"defaults": "", "manifests": manifests, "everything": everything, "documentation": documented(t)} {
		t.Run(name, func(t *testing.T) {
			objects, err := render(t, values)
			if err != nil {
				t.Fatal(err)
			}
			kinds := checkObjects(t, objects)
			want := []string{"ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"}
			if name == "manifests" || name == "everything" {
				want = append(want, "HorizontalPodAutoscaler")
				slices.Sort(want)
			}
			if !slices.Equal(kinds, want) {
				t.Errorf("kinds %q, want %q", kinds, want)
			}
			file := filepath.Join(t.TempDir(), "objects.yaml")
			write(t, file, strings.Join(objects, "---\n"), 0o644)
			for _, version := range versions {
				validate(t, version, file)
			}
		})
	}
}

// documented are the values that the documentation shows.
func documented(t *testing.T) string {
	t.Helper()
	_, rest, found := strings.Cut(string(read(t, root+"/docs/deploy.md")), "```yaml\n# my-values.yaml\n")
	values, _, ends := strings.Cut(rest, "```")
	if !found || !ends {
		t.Fatal("docs/deploy.md shows no my-values.yaml")
	}
	return values
}

// TestHelmRefuses has the chart refuse values that would go wrong later, in words.
func TestHelmRefuses(t *testing.T) {
	for values, want := range map[string]string{
		"replicas: 2":                              "Several replicas need a Redis that they share",
		"autoscaling: {enabled: true}":             "Several replicas need a Redis that they share",
		"replica: 2":                               "replica",
		"redis: {url: \"http://redis\"}":           "redis",
		"config: {upstreams: [], listen: \"1:2\"}": "config",
		"config: {limits: []}\n":                   "", // keeps the default upstreams: fine
		"networkPolicy: {allow: everything}":       "allow",
		"drain: {wait: -1}":                        "drain",
		"keys: {secret: \"\"}":                     "keys",
		"logLevel: loud":                           "logLevel",
	} {
		_, err := render(t, values)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", values, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want an error with %q", values, err, want)
		}
	}
}

// TestManifests keeps the manifests for those without Helm what the chart renders.
func TestManifests(t *testing.T) {
	objects, err := render(t, manifests)
	if err != nil {
		t.Fatal(err)
	}
	text := "# Rendered from deploy/helm/weir, with a Redis at redis:6379 that the replicas share.\n---\n" +
		managed.ReplaceAllString(strings.Join(objects, "---\n"), "")
	file := root + "/deploy/kubernetes/weir.yaml"
	if *update {
		write(t, file, text, 0o644)
	}
	if got := read(t, file); string(got) != text {
		t.Errorf("%s is not what the chart renders: go test -C deploy/test -run TestManifests -update .", file)
	}
}

// render returns the objects of the chart, in the order in which Helm installs them.
func render(t *testing.T, values string) ([]string, error) {
	t.Helper()
	c, err := loader.Load(root + "/deploy/helm/weir")
	if err != nil {
		t.Fatal(err)
	}
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(c, given, chartutil.ReleaseOptions{Name: "weir", Namespace: "llm", IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		return nil, err
	}
	var objects []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for object := range strings.SplitSeq(files[name], "---\n") {
			if strings.TrimSpace(object) != "" {
				objects = append(objects, strings.TrimSpace(object)+"\n")
			}
		}
	}
	return objects, nil
}

// validate checks a file's objects against a version's schemas: nothing may be unknown.
func validate(t *testing.T, version, file string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program(t, "kubernetes-validate"), "--strict", "-k", version, file).CombinedOutput()
	if err != nil {
		t.Errorf("Kubernetes %s: %v\n%s", version, err, out)
	}
}

// managed is a label that is only true of what Helm installs.
var managed = regexp.MustCompile(`(?m)^ *app\.kubernetes\.io/managed-by: Helm\n`)

// object is what the checks look at.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Template struct {
			Spec struct {
				InitContainers, Containers []container
			}
		}
	}
}

type container struct {
	Name            string
	SecurityContext struct {
		RunAsUser                int
		AllowPrivilegeEscalation *bool
		ReadOnlyRootFilesystem   bool
		Capabilities             struct{ Drop []string }
	}
	Resources struct{ Limits map[string]any }
}

// checkObjects looks at what every object must have, and returns their kinds.
func checkObjects(t *testing.T, objects []string) (kinds []string) {
	t.Helper()
	containers := 0
	for _, text := range objects {
		var o object
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		kinds = append(kinds, o.Kind)
		if o.Metadata.Name != "weir" {
			t.Errorf("%s is named %q", o.Kind, o.Metadata.Name)
		}
		if o.Kind == "ConfigMap" {
			checkConfig(t, o.Data["weir.yaml"])
		}
		for _, c := range slices.Concat(o.Spec.Template.Spec.InitContainers, o.Spec.Template.Spec.Containers) {
			containers++
			s := c.SecurityContext
			if s.RunAsUser == 0 || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !s.ReadOnlyRootFilesystem ||
				!slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || c.Resources.Limits["memory"] == nil {
				t.Errorf("container %s is not locked down: %+v", c.Name, c)
			}
		}
	}
	if containers != 3 {
		t.Errorf("%d containers", containers)
	}
	slices.Sort(kinds)
	return kinds
}

// checkConfig has weir check its configuration, beside keys and secrets such as the pod
// would have.
func checkConfig(t *testing.T, text string) {
	t.Helper()
	dir := t.TempDir()
	cert, key := certificate(t)
	for name, content := range map[string]string{"secrets/megallm": "secret\n", "redis/password": "secret\n", "tls/tls.crt": cert, "tls/tls.key": key} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), content, 0o600)
	}
	keys := filepath.Join(dir, "keys", "keys.yaml")
	if err := os.MkdirAll(filepath.Dir(keys), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), weir, "keys", "new", "--file", keys, "--user", "ann").CombinedOutput(); err != nil {
		t.Fatalf("weir keys new: %v\n%s", err, out)
	}
	file := filepath.Join(dir, "weir.yaml")
	write(t, file, strings.ReplaceAll(text, "/etc/weir/", dir+"/"), 0o600)
	out, err := exec.CommandContext(t.Context(), weir, "check", "--config", file).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("is fine")) {
		t.Errorf("weir check: %v\n%s\n%s", err, out, text)
	}
}

// certificate is a certificate and its key, in PEM.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return encode("CERTIFICATE", der), encode("EC PRIVATE KEY", text)
}
