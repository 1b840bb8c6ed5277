# The Metropolis-within-Gibbs loop of the lecture slides (after Hoff 2009, section 11.4) for a Poisson
# regression in each group: theta, then Sigma, then each group's coefficients in turn, proposed from
# N(current, Sigma / 2). Base R alone. Arguments: folder scans thin seed.
# Reads counts.csv (groups x rows) and columns.csv (rows x coefficients) from the folder; writes theta.csv
# and seconds.csv (wall, processor) into it.

arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[1]
scans <- as.integer(arguments[2])
thin <- as.integer(arguments[3])
set.seed(as.integer(arguments[4]))

Y <- as.matrix(read.csv(file.path(folder, "counts.csv"), header = FALSE))
X <- as.matrix(read.csv(file.path(folder, "columns.csv"), header = FALSE))
dimnames(X) <- dimnames(Y) <- NULL
m <- nrow(Y)
p <- ncol(X)

# The slides call helpers of these shapes: several draws or points at once, one a row.
draw_normal <- function(n, mean, covariance) {
  z <- matrix(rnorm(n * length(mean)), nrow = n)
  sweep_rows(z %*% chol(covariance), as.vector(mean))
}

sweep_rows <- function(rows, by) rows + rep(by, each = nrow(rows))

draw_wishart <- function(df, scale) {
  Z <- matrix(rnorm(df * nrow(scale)), nrow = df) %*% chol(scale)
  t(Z) %*% Z
}

log_normal <- function(rows, mean, inverse, determinant) {
  away <- sweep_rows(rows, -as.vector(mean))
  squares <- sum(diag(away %*% inverse %*% t(away)))
  -0.5 * (squares + nrow(rows) * log(determinant) + length(rows) * log(2 * pi))
}

# every mouse has its own columns there
X <- array(X, c(ncol(Y), p, m))

started <- proc.time()

# unit-information priors: least squares of log(y + 1/n) in each group
beta <- t(apply(Y, 1, function(y) lm.fit(X[, , 1], log(y + 1 / length(y)))$coefficients))
mu0 <- colMeans(beta)
S0 <- cov(beta)
eta0 <- p + 2
prior_precision <- precision <- solve(S0)

kept <- NULL
for (s in 1:scans) {
  V <- solve(prior_precision + m * precision)
  centre <- V %*% (prior_precision %*% mu0 + precision %*% apply(beta, 2, sum))
  theta <- t(draw_normal(1, centre, V))

  around <- beta - matrix(theta, m, p, byrow = TRUE)
  precision <- draw_wishart(eta0 + m, solve(S0 + t(around) %*% around))
  Sigma <- solve(precision)
  determinant <- det(Sigma)

  for (j in 1:m) {
    proposed <- t(draw_normal(1, beta[j, ], 0.5 * Sigma))
    ratio <- sum(dpois(Y[j, ], exp(X[, , j] %*% proposed), log = TRUE) -
                   dpois(Y[j, ], exp(X[, , j] %*% beta[j, ]), log = TRUE)) +
      log_normal(t(proposed), theta, precision, determinant) -
      log_normal(t(beta[j, ]), theta, precision, determinant)
    if (log(runif(1)) < ratio) beta[j, ] <- proposed
  }

  if (s %% thin == 0) kept <- rbind(kept, t(theta))
}

took <- proc.time() - started
write.table(kept, file.path(folder, "theta.csv"), sep = ",", row.names = FALSE, col.names = FALSE)
write.table(t(c(took[["elapsed"]], took[["user.self"]] + took[["sys.self"]])),
            file.path(folder, "seconds.csv"), sep = ",", row.names = FALSE, col.names = FALSE)
