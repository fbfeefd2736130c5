# The formula of imgsync for Homebrew. packaging/release.sh fills in what is between two @, and adds the file to
# the release.
# first release: copy imgsync.rb of the release to Formula/ of a repository OWNER/homebrew-tap, and write
# `brew install OWNER/tap/imgsync` into docs/install.md and docs/zh-CN/install.md.
class Imgsync < Formula
  desc "Push container images and upload only the layers that the registry lacks"
  homepage "@RELEASES@"
  version "@VERSION@"
  license any_of: ["MIT", "Apache-2.0"]

  on_macos do
    on_arm do
      url "@RELEASES@/download/v@VERSION@/imgsync-aarch64-macos.tar.gz"
      sha256 "@SHA256 imgsync-aarch64-macos.tar.gz@"
    end
    on_intel do
      url "@RELEASES@/download/v@VERSION@/imgsync-x86_64-macos.tar.gz"
      sha256 "@SHA256 imgsync-x86_64-macos.tar.gz@"
    end
  end

  on_linux do
    on_arm do
      url "@RELEASES@/download/v@VERSION@/imgsync-aarch64-linux.tar.gz"
      sha256 "@SHA256 imgsync-aarch64-linux.tar.gz@"
    end
    on_intel do
      url "@RELEASES@/download/v@VERSION@/imgsync-x86_64-linux.tar.gz"
      sha256 "@SHA256 imgsync-x86_64-linux.tar.gz@"
    end
  end

  def install
    bin.install "imgsync"
    generate_completions_from_executable(bin/"imgsync", "completions")
    mkdir "manual"
    system bin/"imgsync", "man", "manual"
    man1.install Dir["manual/*.1"]
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/imgsync --version")
  end
end
