package deploytest

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/sirupsen/logrus"
)

const root = "../.."

// always are the services of every profile.
var always = []string{"envoy", "redis", "weir"}

var profiles = map[string][]string{
	"":           nil,
	"demo":       {"simulator"},
	"gpu":        {"vllm"},
	"cpu":        {"vllm-cpu"},
	"monitoring": {"grafana", "prometheus"},
}

// TestCompose loads docker-compose.yml as docker compose does, with each of its
// profiles, and looks at what every service must have.
func TestCompose(t *testing.T) {
	seen := map[string]bool{}
	for profile, own := range profiles {
		t.Run(profile, func(t *testing.T) {
			p, warnings := loadCompose(t, profile)
			if warnings != "" {
				t.Errorf("warnings:\n%s", warnings)
			}
			want := slices.Sorted(slices.Values(slices.Concat(always, own)))
			if got := slices.Sorted(maps.Keys(p.Services)); !slices.Equal(got, want) {
				t.Errorf("services %q, want %q", got, want)
			}
			for name, s := range p.Services {
				seen[name] = true
				checkService(t, name, s)
			}
		})
	}
	p, _ := loadCompose(t, "*")
	for name := range p.Services {
		if !seen[name] {
			t.Errorf("no profile has %s", name)
		}
	}
	for name, secret := range p.Secrets {
		if secret.File == "" || secret.Environment != "" || secret.Content != "" {
			t.Errorf("secret %s is no file", name)
		}
	}
}

// loadCompose loads the file with the settings of .env.example, and none of this
// machine's.
func loadCompose(t *testing.T, profile string) (p *types.Project, warnings string) {
	t.Helper()
	var told bytes.Buffer
	logrus.SetOutput(&told)
	defer logrus.SetOutput(os.Stderr)
	opts, err := cli.NewProjectOptions([]string{root + "/docker-compose.yml"},
		cli.WithEnvFiles(root+"/.env.example"), cli.WithDotEnv, cli.WithEnv([]string{"COMPOSE_PROFILES=" + profile}),
		cli.WithProfiles([]string{profile}))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = opts.LoadProject(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p, told.String()
}

// checkService: no rights, bounds, a probe; nobody but Envoy is published, but for the
// dashboards, to this machine.
func checkService(t *testing.T, name string, s types.ServiceConfig) {
	t.Helper()
	for what, ok := range map[string]bool{
		"a read-only root":        s.ReadOnly,
		"no capabilities":         slices.Equal(s.CapDrop, []string{"ALL"}) && len(s.CapAdd) == 0 && !s.Privileged,
		"no new privileges":       slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}),
		"a restart policy":        s.Restart == types.RestartPolicyUnlessStopped,
		"a health check":          s.HealthCheck != nil && len(s.HealthCheck.Test) > 0,
		"a memory limit":          s.MemLimit > 0,
		"a limit on processes":    s.PidsLimit > 0,
		"a log that is bounded":   s.Logging != nil && s.Logging.Options["max-size"] != "",
		"an image with a version": strings.Contains(s.Image, ":") && !strings.HasSuffix(s.Image, ":latest"),
	} {
		if !ok {
			t.Errorf("%s lacks %s", name, what)
		}
	}
	// vLLM's images are made for root, and take what cores there are.
	if engine := strings.HasPrefix(name, "vllm"); !engine && (s.User == "" || strings.HasPrefix(s.User, "0") || strings.HasPrefix(s.User, "root") || s.CPUS == 0) {
		t.Errorf("%s has the user %q and %v cores", name, s.User, s.CPUS)
	}
	var published []string
	for _, port := range s.Ports {
		published = append(published, port.HostIP+":"+port.Published)
	}
	want := map[string][]string{"envoy": {"127.0.0.1:8080"}, "grafana": {"127.0.0.1:3000"}}[name]
	if !slices.Equal(published, want) {
		t.Errorf("%s publishes %q, want %q", name, published, want)
	}
	for key, value := range s.Environment {
		if strings.HasSuffix(key, "PASSWORD") || strings.HasSuffix(key, "TOKEN") || strings.HasSuffix(key, "_KEY") {
			t.Errorf("%s has a secret in its environment: %s=%v", name, key, value)
		}
	}
}
